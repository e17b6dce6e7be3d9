import assert from "node:assert/strict";
import { test } from "node:test";
import { toHex } from "../../src/kit/bytes.js";
import { isLater, Timestamps } from "../../src/wireguard/tai64n.js";

test("the first second of 1970 is 2^62 + 10, and fractions round down to 2^24 ns", () => {
  assert.equal(toHex(new Timestamps().next(0)), "400000000000000a00000000");
  assert.equal(toHex(new Timestamps().next(1_700_000_000_999)), "400000006553f10a3b000000");
});

test("timestamps grow when the wall clock stands still or goes back", () => {
  const timestamps = new Timestamps();
  let last = timestamps.next(1_700_000_000_000);
  for (const wallMs of [1_700_000_000_000, 1_700_000_000_001, 1_600_000_000_000, ...new Array<number>(200).fill(5)]) {
    const next = timestamps.next(wallMs);
    assert(isLater(next, last), `${toHex(next)} after ${toHex(last)}`);
    last = next;
  }
  assert(isLater(timestamps.next(1_800_000_000_000), last));
});

test("an equal timestamp is not later", () => {
  const [one, other] = [new Timestamps().next(7_000), new Timestamps().next(7_000)];
  assert.equal(isLater(one, other), false);
});
