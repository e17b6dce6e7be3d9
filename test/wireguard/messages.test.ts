import assert from "node:assert/strict";
import { test } from "node:test";
import { toHex } from "../../src/kit/bytes.js";
import { decodeMessage, encodeMessage, type Message } from "../../src/wireguard/messages.js";
import { hex } from "./hex.js";

const of = (length: number, byte: number): Uint8Array => new Uint8Array(length).fill(byte);

const messages: { name: string; message: Message; hex: string }[] = [
  {
    name: "initiation",
    message: {
      type: 1,
      sender: 0x04030201,
      ephemeral: of(32, 0xaa),
      sealedStatic: of(48, 0xbb),
      sealedTimestamp: of(28, 0xcc),
      mac1: of(16, 0xdd),
      mac2: of(16, 0xee),
    },
    hex: `01000000 01020304 ${"aa".repeat(32)} ${"bb".repeat(48)} ${"cc".repeat(28)} ${"dd".repeat(16)} ${"ee".repeat(16)}`,
  },
  {
    name: "response",
    message: {
      type: 2,
      sender: 1,
      receiver: 0xfffffffe,
      ephemeral: of(32, 0xaa),
      sealedNothing: of(16, 0xbb),
      mac1: of(16, 0xcc),
      mac2: of(16, 0),
    },
    hex: `02000000 01000000 feffffff ${"aa".repeat(32)} ${"bb".repeat(16)} ${"cc".repeat(16)} ${"00".repeat(16)}`,
  },
  {
    name: "cookie reply",
    message: { type: 3, receiver: 7, nonce: of(24, 0xaa), sealedCookie: of(32, 0xbb) },
    hex: `03000000 07000000 ${"aa".repeat(24)} ${"bb".repeat(32)}`,
  },
  {
    name: "keepalive with counter 2^32 + 2",
    message: { type: 4, receiver: 7, counterHigh: 1, counterLow: 2, sealed: of(16, 0xaa) },
    hex: `04000000 07000000 02000000 01000000 ${"aa".repeat(16)}`,
  },
];

for (const { name, message, hex: text } of messages)
  test(`${name}: encodes and decodes`, () => {
    assert.equal(toHex(encodeMessage(message)), text.replaceAll(" ", ""));
    assert.deepEqual(decodeMessage(hex(text)), message);
  });

for (const { name, message } of messages) {
  const bytes = encodeMessage(message);
  test(`${name}: a byte more or less, a reserved byte or another type is refused`, () => {
    assert.equal(decodeMessage(bytes.subarray(0, -1)), undefined);
    if (message.type !== 4) assert.equal(decodeMessage(Uint8Array.of(...bytes, 0)), undefined);
    for (const at of [1, 2, 3]) assert.equal(decodeMessage(bytes.with(at, 1)), undefined);
    for (const type of [0, 5, 255]) assert.equal(decodeMessage(bytes.with(0, type)), undefined);
  });
}
