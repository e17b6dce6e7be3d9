import assert from "node:assert/strict";
import { randomBytes, randomInt } from "node:crypto";
import { test } from "node:test";
import { poly1305 } from "@noble/ciphers/_poly1305.js";
import { assemble, I32, i32, loopWhile, Routine } from "../../src/engine/wasm/assembler.js";
import { Poly1305 } from "../../src/engine/wasm/poly1305.js";

/**
 * The authenticator alone, with keys and messages that ChaCha20 would not produce in the age of the universe: where
 * digits are full, and where the last subtraction decides.
 */
const memory = new WebAssembly.Memory({ initial: 1, maximum: 1 });
const bytes = new Uint8Array(memory.buffer);
const KEY = 0;
const TAG = 64;
const MESSAGE = 128;

const routine = new Routine([I32, I32]);
const [at, stop] = [routine.parameter(0), routine.parameter(1)];
const poly = new Poly1305(routine);
routine.write([
  poly.start(i32.const(KEY)),
  loopWhile(i32.lessUnsigned(at, stop), [poly.block(at), at.set(i32.add(at, i32.const(16)))]),
  poly.tag(i32.const(KEY + 16), i32.const(TAG)),
]);
const { authenticate } = new WebAssembly.Instance(new WebAssembly.Module(assemble({ authenticate: routine })), {
  env: { memory },
}).exports;

const ff = "ff".repeat(16);
const small = (first: string): string => first.padEnd(32, "0");

// RFC 8439 A.3, vectors 7 to 11.
for (const { name, r, s, message, tag } of [
  { name: "h + s reaches 2^128", r: small("02"), s: ff, message: small("02"), tag: small("03") },
  { name: "h is 2^130 - 2, above the modulus", r: small("02"), s: small(""), message: ff, tag: small("03") },
  {
    name: "three blocks are 5·2^128",
    r: small("01"),
    s: small(""),
    message: `${ff}f0${ff.slice(2)}${small("11")}`,
    tag: small("05"),
  },
  {
    name: "three blocks are 5·2^128 - 5",
    r: small("01"),
    s: small(""),
    message: `${ff}fb${"fe".repeat(15)}${"01".repeat(16)}`,
    tag: small(""),
  },
  {
    name: "h is 2^130 - 6, below the modulus",
    r: small("02"),
    s: small(""),
    message: `fd${ff.slice(2)}`,
    tag: `fa${ff.slice(2)}`,
  },
])
  test(`RFC 8439 A.3, ${name}: the tag printed there`, () => {
    assert.equal(tagOf(Buffer.from(r + s, "hex"), Buffer.from(message, "hex")), tag);
  });

test("full and empty digits of key and message give the tag another implementation gives", () => {
  for (let round = 0; round < 20_000; round++) {
    const [key, message] = [extreme(32), extreme(16 * randomInt(0, 12))];
    assert.equal(
      tagOf(key, message),
      Buffer.from(poly1305(message, key)).toString("hex"),
      `${key.toString("hex")} ${message.toString("hex")}`,
    );
  }
});

test("a message of all ones under the largest key overflows no digit", () => {
  const key = Buffer.alloc(32, 0xff);
  for (const blocks of [1, 2, 3, 100, 4000]) {
    const message = Buffer.alloc(16 * blocks, 0xff);
    assert.equal(tagOf(key, message), Buffer.from(poly1305(message, key)).toString("hex"), `${blocks} blocks`);
  }
});

function tagOf(key: Uint8Array, message: Uint8Array): string {
  assert.ok(typeof authenticate === "function");
  bytes.set(key, KEY);
  bytes.set(message, MESSAGE);
  authenticate(MESSAGE, MESSAGE + message.length);
  return Buffer.from(bytes.subarray(TAG, TAG + 16)).toString("hex");
}

/** 32-bit words that are all ones, all zeros, nearly so, or random. */
function extreme(length: number): Buffer {
  const words = Array.from({ length: length / 4 }, () => {
    const word = [
      Buffer.alloc(4, 0xff),
      Buffer.alloc(4),
      Buffer.from("fbffffff", "hex"),
      Buffer.from("05000000", "hex"),
    ];
    return word[randomInt(6)] ?? randomBytes(4);
  });
  return Buffer.concat(words);
}
