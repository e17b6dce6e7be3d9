import type { Log } from "./log.js";

const LEVELS = ["debug", "info", "warn", "error"] as const;

/** JSON lines on stderr as jsonLog writes them, without its library: 4 MB less resident, for a daemon that says little. */
export function lineLog(name: string, level: string): Log {
  const least = LEVELS.indexOf(LEVELS.find((one) => one === level) ?? "info");
  const at = (i: number) => (message: string, fields?: Record<string, unknown>) => {
    if (i < least) return;
    const line = { level: (i + 2) * 10, time: Date.now(), name, ...fields, msg: message };
    process.stderr.write(`${JSON.stringify(line)}\n`);
  };
  return { debug: at(0), info: at(1), warn: at(2), error: at(3) };
}
