import assert from "node:assert/strict";
import { test } from "node:test";
import { concat, utf8 } from "../../src/kit/bytes.js";
import { TURN_BUFFERS_KEPT, TurnMemory } from "../../src/relay/turnmemory.js";
import { chunkFreer } from "../../src/sys/freeing.js";

const chunksOf = (...texts: string[]): Uint8Array[] => texts.map((text) => new Uint8Array(utf8(text)));

test("chunks are joined behind what was left of before, and their memory is given back", () => {
  const memory = new TurnMemory(TURN_BUFFERS_KEPT, chunkFreer());
  const chunks = chunksOf("second ", "third");
  assert.deepEqual(memory.join(utf8("first "), chunks), new Uint8Array(utf8("first second third")));
  assert.deepEqual(
    chunks.map(({ buffer }) => buffer.byteLength),
    [0, 0],
  );
});

test("a part of a buffer that others have parts of is not freed", () => {
  const whole = utf8("mine and yours");
  chunkFreer()?.(whole.subarray(0, 4));
  assert.deepEqual(whole, utf8("mine and yours"));
});

test("a buffer is used again when its last holder has let go of it, and not before", () => {
  const memory = new TurnMemory(TURN_BUFFERS_KEPT);
  const first = memory.join(undefined, chunksOf("first"));
  memory.hold(first.subarray(1, 3));
  memory.release(first);
  const second = memory.join(undefined, chunksOf("second"));
  assert.notEqual(second.buffer, first.buffer);
  assert.deepEqual(first, new Uint8Array(utf8("first")));
  memory.release(first.subarray(1, 3));
  assert.equal(memory.join(undefined, chunksOf("third")).buffer, first.buffer);
});

test("memory from elsewhere may be held and released, and is never handed out", () => {
  const memory = new TurnMemory(TURN_BUFFERS_KEPT);
  const note = utf8("note");
  memory.hold(note);
  memory.release(note);
  memory.release(note);
  assert.notEqual(memory.join(undefined, chunksOf("first")).buffer, note.buffer);
});

test("what is longer than a turn has memory of its own, and no more buffers are kept than the bound", () => {
  const memory = new TurnMemory(2);
  const long = concat(new Uint8Array(100_000), utf8("end"));
  const joined = memory.join(undefined, [long.slice()]);
  assert.deepEqual(new Uint8Array(joined), long);
  memory.release(joined);
  const many = Array.from({ length: 10 }, () => memory.join(undefined, chunksOf("x")));
  for (const one of many) memory.release(one);
  const again = Array.from({ length: 10 }, () => memory.join(undefined, chunksOf("y")).buffer);
  assert.equal(again.filter((buffer) => many.some((one) => one.buffer === buffer)).length, 2);
});

test("buffers that nobody needed between two tidyings are let go, those in use stay", () => {
  const memory = new TurnMemory(TURN_BUFFERS_KEPT);
  const take = () => memory.join(undefined, chunksOf("x"));
  const [first, second, third] = [take(), take(), take()];
  for (const one of [first, second, third]) memory.release(one);
  memory.tidy();
  const again = take();
  assert.equal(again.buffer, third.buffer);
  memory.release(again);
  memory.tidy();
  assert.equal(take().buffer, third.buffer, "it was needed");
  assert.ok(![first.buffer, second.buffer].includes(take().buffer));
});

test("where nothing is kept, what was handed out is never written to again", () => {
  const memory = new TurnMemory();
  const first = memory.join(utf8("fi"), chunksOf("rst"));
  memory.release(first);
  memory.join(utf8("se"), chunksOf("cond"));
  assert.deepEqual(new Uint8Array(first), new Uint8Array(utf8("first")));
});
