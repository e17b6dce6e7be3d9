import assert from "node:assert/strict";
import { test } from "node:test";
import { latestOnly } from "../../src/agent/latest.js";

test("many calls during a run cost one more run, and everybody waits for it", async () => {
  const runs: (() => void)[] = [];
  let state = 0;
  const seen: number[] = [];
  const go = latestOnly(async () => {
    seen.push(state);
    await new Promise<void>((resolve) => runs.push(resolve));
  });
  const first = go();
  state = 1;
  const later = [go(), go(), go()];
  state = 2;
  runs.shift()?.();
  await first;
  await new Promise((resolve) => setImmediate(resolve));
  runs.shift()?.();
  await Promise.all(later);
  assert.deepEqual(seen, [0, 2]);
});

test("a run that fails tells its own caller, and the next one still runs", async () => {
  let count = 0;
  const go = latestOnly(async () => {
    count++;
    if (count === 1) throw new Error("first");
  });
  const [first, second] = await Promise.allSettled([go(), go()]);
  assert.equal(first.status, "rejected");
  assert.equal(second.status, "fulfilled");
  assert.equal(count, 2);
});
