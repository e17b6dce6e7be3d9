import assert from "node:assert/strict";
import { test } from "node:test";
import { fromBase64, toBase64, utf8 } from "../../src/kit/bytes.js";
import { hash } from "../../src/kit/crypto.js";
import { keyOf } from "../../src/kit/key.js";
import {
  type DeviceLock,
  endorsementOf,
  endsLock,
  fingerprintOf,
  follows,
  formatLockSecret,
  type LockKey,
  lockKeyOf,
  lockRecord,
  lockSecretHash,
  parseLockSecret,
  readRecord,
  SHUT_OUT_MAX,
  signDevice,
  signerOf,
  signRecord,
  signStatement,
  standingOf,
  TRUSTED_MAX,
  type Trust,
} from "../../src/wire/lock.js";

const lockKey = (name: string): LockKey => lockKeyOf(hash(utf8(name)));
const [laptop, phone, thief] = [lockKey("laptop"), lockKey("phone"), lockKey("thief")];
const LOCK = "0123456789abcdef0123456789abcdef";
const OTHER_LOCK = "f".repeat(32);
const SECRET = "00112233445566778899aabbccddeeff";
const secretHash = lockSecretHash(SECRET);

const publicOf = (keys: readonly LockKey[]) => keys.map(({ key }) => key);
const recordOf = (
  by: LockKey,
  keys: readonly LockKey[],
  version = 1,
  lock = LOCK,
  shutOut: readonly LockKey[] = [],
): string => signRecord(by, { lock, version, secretHash, keys: publicOf(keys), shutOut: publicOf(shutOut) });
const trustOf = (...given: Parameters<typeof recordOf>): Trust =>
  readRecord(recordOf(...given)) ?? assert.fail("a record of ours is read");

test("a record says what was signed, its keys in one order only", () => {
  const trust = trustOf(laptop, [laptop, phone], 7);
  assert.deepEqual(
    { ...trust, keys: new Set(trust.keys) },
    {
      ...{ lock: LOCK, version: 7, secretHash, shutOut: [], by: laptop.key },
      keys: new Set([laptop.key, phone.key]),
    },
  );
  assert.equal(recordOf(laptop, [laptop, phone], 7), recordOf(laptop, [phone, laptop, phone], 7));
});

test("a record with one bit changed, cut short or with a byte more is none", () => {
  const record = fromBase64(recordOf(laptop, [laptop, phone], 1, LOCK, [thief])) ?? assert.fail("base64");
  for (let at = 0; at < record.length; at++) {
    const altered = new Uint8Array(record);
    altered[at] = (altered[at] ?? 0) ^ (1 << (at % 8));
    assert.equal(readRecord(toBase64(altered)), undefined, `byte ${at}`);
  }
  assert.equal(readRecord(toBase64(record.subarray(0, -1))), undefined);
  assert.equal(readRecord(toBase64(Uint8Array.of(...record, 0))), undefined);
  assert.equal(readRecord(""), undefined);
});

test("a full record is read, one without keys or of version 0 is not", () => {
  const many = Array.from({ length: TRUSTED_MAX + SHUT_OUT_MAX }, (_, at) => lockKey(`device ${at}`));
  const full = recordOf(laptop, many.slice(0, TRUSTED_MAX), 1, LOCK, many.slice(TRUSTED_MAX));
  assert.equal(readRecord(full)?.shutOut.length, SHUT_OUT_MAX);
  assert.ok(lockRecord.safeParse(full).success);
  assert.equal(readRecord(recordOf(laptop, [])), undefined);
  assert.equal(readRecord(recordOf(laptop, [laptop], 0)), undefined);
});

test("only a higher version of the same lock, by a device trusted before, follows", () => {
  const first = trustOf(laptop, [laptop, phone], 3);
  assert.ok(follows(first, trustOf(phone, [phone], 4)));
  assert.ok(follows(first, trustOf(phone, [phone], 9)), "versions may be left out");
  assert.ok(!follows(first, trustOf(phone, [phone], 3)), "the same version");
  assert.ok(!follows(first, trustOf(laptop, [laptop], 2)), "an older one");
  assert.ok(!follows(first, trustOf(thief, [laptop, phone, thief], 4)), "by a device that trusts itself alone");
  assert.ok(!follows(first, trustOf(laptop, [laptop], 4, OTHER_LOCK)), "of another lock");
  const otherSecret = signRecord(laptop, { ...first, version: 4, secretHash: lockSecretHash("00".repeat(16)) });
  assert.ok(!follows(first, readRecord(otherSecret) ?? assert.fail("read")), "with another secret");
});

test("a lock ends by its secret alone, however that is written", () => {
  const trust = trustOf(laptop, [laptop]);
  assert.ok(endsLock(trust, SECRET));
  assert.ok(!endsLock(trust, "0".repeat(32)));
  assert.equal(formatLockSecret(SECRET), "0011-2233-4455-6677-8899-aabb-ccdd-eeff");
  assert.equal(parseLockSecret(" 0011 2233-4455-6677 8899-AABB-ccdd-eeff\n"), SECRET);
  for (const wrong of ["", "0011", `${SECRET}0`, "g".repeat(32)])
    assert.equal(parseLockSecret(wrong), undefined, wrong);
});

const keys = { publicKey: keyOf(hash(utf8("wireguard"))), discoveryKey: keyOf(hash(utf8("discovery"))) };
const lockOf = (own: LockKey, signature?: string, spoken = keys): DeviceLock => ({
  key: own.key,
  statement: signStatement(own, spoken),
  ...(signature === undefined ? {} : { signature }),
});
const trust = trustOf(laptop, [laptop]);

for (const [title, device, expected] of [
  ["a trusted device needs nobody's signature", { ...keys, lock: lockOf(laptop) }, "trusted"],
  [
    "a device that a trusted one has signed is signed",
    { ...keys, lock: lockOf(phone, signDevice(laptop, LOCK, phone.key)) },
    "signed",
  ],
  ["without a lock key it cannot be signed", keys, "no-lock-key"],
  ["a device that nobody has signed is not", { ...keys, lock: lockOf(thief) }, "unsigned"],
  [
    "a device's own signature counts for nothing",
    { ...keys, lock: lockOf(thief, signDevice(thief, LOCK, thief.key)) },
    "unsigned",
  ],
  [
    "another device's signature does not fit",
    { ...keys, lock: lockOf(thief, signDevice(laptop, LOCK, phone.key)) },
    "unsigned",
  ],
  [
    "a signature of another lock does not count",
    { ...keys, lock: lockOf(phone, signDevice(laptop, OTHER_LOCK, phone.key)) },
    "unsigned",
  ],
  [
    "another WireGuard key under a trusted device's name is not its own",
    { ...keys, publicKey: keyOf(hash(utf8("mine"))), lock: lockOf(laptop) },
    "other-keys",
  ],
  ["nor is another discovery key, or none", { publicKey: keys.publicKey, lock: lockOf(laptop) }, "other-keys"],
] as const)
  test(title, () => assert.equal(standingOf(trust, device), expected));

test("what a distrusted device has signed is not signed any more", () => {
  const signature = signDevice(phone, LOCK, thief.key);
  assert.equal(signerOf(LOCK, thief.key, signature), phone.key);
  assert.equal(endorsementOf(trustOf(laptop, [laptop, phone]), { key: thief.key, signature }), "signed");
  assert.equal(endorsementOf(trustOf(laptop, [laptop], 2), { key: thief.key, signature }), "unsigned");
});

test("who is shut out is out whoever has signed, and nobody is trusted and shut out", () => {
  const lock = lockOf(phone, signDevice(laptop, LOCK, phone.key));
  const without = trustOf(laptop, [laptop], 2, LOCK, [thief, phone]);
  assert.deepEqual(new Set(without.shutOut), new Set([thief.key, phone.key]));
  assert.equal(standingOf(without, { ...keys, lock }), "shut-out");
  assert.equal(standingOf(trustOf(laptop, [laptop], 3, LOCK, [thief]), { ...keys, lock }), "signed");
  assert.equal(readRecord(recordOf(laptop, [laptop, phone], 2, LOCK, [phone])), undefined);
});

test("a fingerprint is five groups of four digits, and another key's is another", () => {
  assert.match(fingerprintOf(laptop.key), /^(?:[0-9a-f]{4}-){4}[0-9a-f]{4}$/);
  assert.notEqual(fingerprintOf(laptop.key), fingerprintOf(phone.key));
});
