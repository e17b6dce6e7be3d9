import { type Profiler, Session } from "node:inspector";
import { sep } from "node:path";

const OURS = `${sep}src${sep}`;

/** What ran between two looks: for each script of src/, a 1 for every character that did. */
export type Ran = ReadonlyMap<string, Uint8Array>;
/** Where a stretch of code begins. */
export type Place = { readonly script: string; readonly at: number };

export const ranAt = (ran: Ran, { script, at }: Place): boolean => ran.get(script)?.[at] === 1;

/**
 * Which code of src/ runs, as V8 counts it. Only functions first called after this was made are counted block by
 * block, so make it early; and it halves their speed until `stop`, after which no other one counts as finely.
 */
export class Coverage {
  readonly #session = new Session();
  readonly #seen = new Map<string, Uint8Array>();

  constructor() {
    this.#session.connect();
    this.#session.post("Profiler.enable");
    this.#session.post("Profiler.startPreciseCoverage", { callCount: true, detailed: true });
  }

  look(): Ran {
    const ran = new Map<string, Uint8Array>();
    // The answer comes before post() returns: the session is of this very thread.
    this.#session.post("Profiler.takePreciseCoverage", (error, answer) => {
      if (error !== null) throw error;
      for (const { url, scriptId, functions } of answer.result)
        if (url.includes(OURS) && functions.some(({ ranges }) => (ranges[0]?.count ?? 0) > 0))
          ran.set(scriptId, paint(functions));
    });
    return ran;
  }

  /** The stretches of code that ran for the first time. */
  fresh(ran: Ran): Place[] {
    const fresh: Place[] = [];
    for (const [script, painted] of ran) {
      const before = this.#seen.get(script);
      const seen = before !== undefined && before.length >= painted.length ? before : grown(before, painted.length);
      this.#seen.set(script, seen);
      let inFresh = false;
      for (let at = 0; at < painted.length; at++) {
        const isFresh = painted[at] === 1 && seen[at] === 0;
        if (isFresh) seen[at] = 1;
        if (isFresh && !inFresh) fresh.push({ script, at });
        inFresh = isFresh;
      }
    }
    return fresh;
  }

  stop(): void {
    this.#session.post("Profiler.stopPreciseCoverage");
    this.#session.disconnect();
  }
}

// Outer functions and blocks come before those within them, which have the last word.
function paint(functions: readonly Profiler.FunctionCoverage[]): Uint8Array {
  const ranges = functions.flatMap((one) => one.ranges);
  const painted = new Uint8Array(ranges.reduce((most, { endOffset }) => Math.max(most, endOffset), 0));
  for (const { count, startOffset, endOffset } of ranges) painted.fill(count > 0 ? 1 : 0, startOffset, endOffset);
  return painted;
}

function grown(bytes: Uint8Array | undefined, length: number): Uint8Array {
  const longer = new Uint8Array(length);
  longer.set(bytes ?? []);
  return longer;
}
