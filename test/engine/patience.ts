import assert from "node:assert/strict";
import { performance } from "node:perf_hooks";
import { setTimeout } from "node:timers/promises";
import type { Millis } from "../../src/kit/time.js";

const LOOK_EVERY_MS: Millis = 20;
/** No claim of how fast anything is: for a machine that has much else to do. */
const PATIENCE_MS: Millis = 60_000;

/** Waits for what only the world can make true, such as a kernel counter; how long it took, or a failed assertion. */
export async function until(
  what: string,
  holds: () => boolean | Promise<boolean>,
  deadlineMs: Millis = PATIENCE_MS,
): Promise<Millis> {
  const from = performance.now();
  // A look that takes long says how it was when it began: the last one begins after the deadline.
  for (let lookedAt = from; !(await holds()); lookedAt = performance.now()) {
    assert.ok(lookedAt - from < deadlineMs, `not in ${deadlineMs} ms: ${what}`);
    await setTimeout(LOOK_EVERY_MS);
  }
  return performance.now() - from;
}
