import assert from "node:assert/strict";
import { randomBytes, randomInt } from "node:crypto";
import { test } from "node:test";
import { loadWasm, WASM_SCRATCH_BYTES } from "../../src/engine/wasmaead.js";

const PAGES = 3;
const memory = new WebAssembly.Memory({ initial: PAGES, maximum: PAGES });
const bytes = new Uint8Array(memory.buffer);
const wasm = loadWasm(memory, 0);
assert.ok(wasm !== undefined);
const { sum } = wasm;
const BASE = WASM_SCRATCH_BYTES;

test("RFC 1071 §3: the eight bytes of its example add up to ddf2", () => {
  bytes.set([0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7], BASE);
  assert.equal(sum(BASE, 8, 0), 0xddf2);
});

test("every length from 0 to 2100 at every alignment adds up as words do one by one", () => {
  bytes.set(randomBytes(4096), BASE);
  for (let length = 0; length <= 2100; length++) {
    const at = BASE + (length % 17) + 16 * (length % 3);
    const initial = length % 5 === 0 ? 0xffff : randomInt(0x10000);
    assert.equal(sum(at, length, initial), slow(at, length, initial), `length ${length} at ${at}`);
  }
  for (let offset = 0; offset < 64; offset++)
    for (const length of [19, 64, 65, 127, 1380])
      assert.equal(
        sum(BASE + offset, length, 0),
        slow(BASE + offset, length, 0),
        `length ${length} at offset ${offset}`,
      );
});

test("long runs of all ones and of zeros add up, where accumulators are fullest", () => {
  for (const value of [0xff, 0x00, 0x7f, 0x80]) {
    bytes.fill(value, BASE);
    for (const length of [1, 2, 15, 16, 63, 64, 65_535, 131_071])
      for (const initial of [0, 1, 0xffff])
        assert.equal(sum(BASE, length, initial), slow(BASE, length, initial), `${length} bytes of ${value}`);
  }
});

test("nothing but zeros add up to zero, and all ones to all ones: the two zeros of ones' complement stay apart", () => {
  bytes.fill(0, BASE);
  assert.equal(sum(BASE, 1380, 0), 0);
  bytes.fill(0xff, BASE);
  assert.equal(sum(BASE, 1380, 0), 0xffff);
});

test("an initial sum of more than 16 bits is folded in", () => {
  bytes.set([0x12, 0x34], BASE);
  assert.equal(sum(BASE, 2, 0x3_0001), 0x1234 + 4);
});

test("the last bytes of the memory can be added up", () => {
  const end = PAGES * 65_536;
  bytes.set(randomBytes(100), end - 100);
  for (let length = 0; length <= 100; length++)
    assert.equal(sum(end - length, length, 0), slow(end - length, length, 0));
});

test("a sum with its complement in it is all ones, which is how a receiver checks", () => {
  bytes.set(randomBytes(1380), BASE);
  bytes.set([0, 0], BASE + 16);
  const checksum = ~sum(BASE, 1380, 0) & 0xffff;
  bytes.set([checksum >> 8, checksum & 0xff], BASE + 16);
  assert.equal(sum(BASE, 1380, 0), 0xffff);
});

/** RFC 1071 §1 word by word, an odd byte being the high half of a word. */
function slow(at: number, length: number, initial: number): number {
  let total = (initial & 0xffff) + (initial >>> 16);
  for (let i = 0; i < length; i++) {
    total += (bytes[at + i] ?? 0) << (i % 2 === 0 ? 8 : 0);
    if (total > 0xffff) total = (total & 0xffff) + 1;
  }
  return total;
}
