import assert from "node:assert/strict";
import { performance } from "node:perf_hooks";
import { setTimeout } from "node:timers/promises";
import type { Millis } from "../../src/kit/time.js";

const LOOK_EVERY_MS: Millis = 20;

/** Waits for what only the world can make true, such as a kernel counter; how long it took, or a failed assertion. */
export async function until(
  what: string,
  holds: () => boolean | Promise<boolean>,
  deadlineMs: Millis = 10_000,
): Promise<Millis> {
  const from = performance.now();
  while (!(await holds())) {
    assert.ok(performance.now() - from < deadlineMs, `not in ${deadlineMs} ms: ${what}`);
    await setTimeout(LOOK_EVERY_MS);
  }
  return performance.now() - from;
}
