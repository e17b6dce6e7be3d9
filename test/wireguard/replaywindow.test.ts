import assert from "node:assert/strict";
import { test } from "node:test";
import { REPLAY_WINDOW_COUNTERS } from "../../src/wireguard/constants.js";
import { ReplayWindow } from "../../src/wireguard/replaywindow.js";
import { chanceOf } from "./world.js";

const accept = (window: ReplayWindow, counter: bigint): boolean =>
  window.accept(Number(counter >> 32n), Number(counter & 0xffff_ffffn));
const SIZE = BigInt(REPLAY_WINDOW_COUNTERS);

test("the window holds at least 8,000 counters", () => {
  assert(REPLAY_WINDOW_COUNTERS >= 8_000);
});

test("each counter is taken once, in whatever order", () => {
  const window = new ReplayWindow();
  for (const counter of [0n, 3n, 1n, 2n, 100n, 99n]) assert.equal(accept(window, counter), true, `first ${counter}`);
  for (const counter of [0n, 1n, 2n, 3n, 99n, 100n]) assert.equal(accept(window, counter), false, `second ${counter}`);
});

test("the oldest counter of the window is taken, the one before is not", () => {
  const window = new ReplayWindow();
  assert(accept(window, 10n * SIZE));
  assert.equal(accept(window, 9n * SIZE + 1n), true);
  assert.equal(accept(window, 9n * SIZE), false);
});

test("a leap of a whole window forgets nothing that it should remember", () => {
  const window = new ReplayWindow();
  assert(accept(window, 5n));
  assert(accept(window, 5n + SIZE));
  assert.equal(accept(window, 5n + SIZE), false);
  assert.equal(accept(window, 6n), true);
  assert.equal(accept(window, 5n), false);
});

test("the border of the counter's halves is no border", () => {
  const window = new ReplayWindow();
  const border = 1n << 32n;
  assert(accept(window, border - 2n));
  assert(accept(window, border + 2n));
  assert(accept(window, border - 1n));
  assert(accept(window, border));
  assert.equal(accept(window, border - 2n), false);
  assert.equal(accept(window, border + 2n), false);
  assert(accept(window, (1n << 64n) - 2n));
  assert.equal(accept(window, border + 3n), false);
});

test("it decides as a set of all counters would", () => {
  const chance = chanceOf(7);
  const window = new ReplayWindow();
  const seen = new Set<bigint>();
  let greatest = (1n << 32n) - 20_000n;
  for (let i = 0; i < 50_000; i++) {
    const stride = chance() < 0.001 ? 3 * REPLAY_WINDOW_COUNTERS : 6;
    const behind = chance() < 0.01 ? 2 * REPLAY_WINDOW_COUNTERS : 50;
    const counter = greatest + BigInt(Math.floor(chance() * stride)) - BigInt(Math.floor(chance() * behind));
    const expected = !seen.has(counter) && (seen.size === 0 || counter > greatest - SIZE);
    assert.equal(accept(window, counter), expected, `counter ${counter} with greatest ${greatest}`);
    if (seen.size === 0) greatest = counter;
    seen.add(counter);
    if (counter > greatest) greatest = counter;
  }
});
