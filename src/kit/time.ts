/** Milliseconds: a duration, or a moment on whatever clock the caller hands in. */
export type Millis = number;

export const SECOND: Millis = 1_000;
export const MINUTE: Millis = 60 * SECOND;
export const HOUR: Millis = 60 * MINUTE;

/** "850 ms", "12.3 s", "4 min 10 s", "15 min", "2 h 5 min", "90 days": for people, not for parsing. */
export function formatDuration(duration: Millis): string {
  if (duration < SECOND) return `${Math.round(duration)} ms`;
  if (duration < MINUTE) return `${(duration / SECOND).toFixed(1)} s`;
  const seconds = Math.round(duration / SECOND);
  if (seconds < 3_600) return inTwo(seconds, 60, "min", "s");
  const minutes = Math.floor(seconds / 60);
  return minutes < 48 * 60 ? inTwo(minutes, 60, "h", "min") : inTwo(Math.floor(minutes / 60), 24, "days", "h");
}

/** The smaller unit only where there is something of it. */
function inTwo(amount: number, per: number, unit: string, smaller: string): string {
  const rest = amount % per;
  return `${Math.floor(amount / per)} ${unit}${rest === 0 ? "" : ` ${rest} ${smaller}`}`;
}

const UNITS: Record<string, Millis> = { ms: 1, s: SECOND, m: MINUTE, h: HOUR, d: 24 * HOUR };

/** Parses "90s", "15m", "24h", "7d"; undefined when the text is anything else. */
export function parseDuration(text: string): Millis | undefined {
  const match = /^(\d{1,9})(ms|s|m|h|d)$/.exec(text);
  const unit = match?.[2] === undefined ? undefined : UNITS[match[2]];
  return match?.[1] === undefined || unit === undefined ? undefined : Number(match[1]) * unit;
}
