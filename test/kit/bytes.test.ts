import assert from "node:assert/strict";
import { test } from "node:test";
import {
  equalSecrets,
  fromBase64,
  fromBase64Url,
  fromHex,
  fromUtf8,
  toBase64Url,
  toHex,
  utf8,
} from "../../src/kit/bytes.js";
import { Failure } from "../../src/kit/failure.js";
import { parseKey } from "../../src/kit/key.js";
import { formatDuration, parseDuration } from "../../src/kit/time.js";

test("decoders take exactly the encoding: no blanks, no missing padding, no stray bits", () => {
  assert.equal(fromBase64("AA"), undefined);
  assert.equal(fromBase64("AB=="), undefined); // the low bits of B would be lost
  assert.equal(fromBase64("AA== "), undefined);
  assert.equal(fromBase64Url("AA=="), undefined);
  assert.equal(fromHex("abc"), undefined);
  assert.equal(fromUtf8(Uint8Array.of(0xff)), undefined);
  assert.deepEqual(fromHex("00fF"), Uint8Array.of(0, 255));
  assert.equal(toHex(utf8("é")), "c3a9");
  assert.equal(toBase64Url(Uint8Array.of(251, 255)), "-_8");
});

test("secrets of different length or content are unequal", () => {
  assert.ok(equalSecrets(utf8("same"), utf8("same")));
  assert.ok(!equalSecrets(utf8("same"), utf8("sama")));
  assert.ok(!equalSecrets(utf8("same"), utf8("samey")));
});

test("an error about a key never holds the key", () => {
  const secret = "c2VjcmV0IGtleSBtYXRlcmlhbCB0aGF0IGlzIHRvbyBsb25nIQ==";
  assert.throws(
    () => parseKey(secret),
    (error: unknown) => error instanceof Failure && error.code === "key-invalid" && !error.message.includes(secret),
  );
});

test("durations are read in ms, s, m, h and d and told as people say them", () => {
  assert.deepEqual(["250ms", "90s", "15m", "24h", "7d", "1w", "5", "-5s"].map(parseDuration), [
    250,
    90_000,
    900_000,
    86_400_000,
    604_800_000,
    undefined,
    undefined,
    undefined,
  ]);
  assert.deepEqual([12, 12_340, 250_000, 119_600, 900_000, 3_599_900, 3_660_000, 7_776_000_000].map(formatDuration), [
    ...["12 ms", "12.3 s", "4 min 10 s", "2 min", "15 min", "1 h", "1 h 1 min", "90 days"],
  ]);
});
