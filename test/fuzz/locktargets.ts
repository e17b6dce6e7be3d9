import assert from "node:assert/strict";
import { Lock } from "../../src/agent/lock.js";
import { fromBase64, toBase64, utf8 } from "../../src/kit/bytes.js";
import { hash } from "../../src/kit/crypto.js";
import { tryJson } from "../../src/kit/json.js";
import {
  endorsementOf,
  follows,
  lockKeyOf,
  lockSecretHash,
  mapLock,
  parseLockSecret,
  readRecord,
  SHUT_OUT_MAX,
  signDevice,
  signerOf,
  signRecord,
  TRUSTED_MAX,
} from "../../src/wire/lock.js";
import { bytes, type Target, text } from "./harness.js";

/** What reads the device lock's words, of which the coordinator may make what it likes. */
const [laptop, phone, stranger] = ["laptop", "phone", "stranger"].map((name) => lockKeyOf(hash(utf8(name)))) as [
  ReturnType<typeof lockKeyOf>,
  ReturnType<typeof lockKeyOf>,
  ReturnType<typeof lockKeyOf>,
];
const LOCK = "0123456789abcdef0123456789abcdef";
const SECRET = "00112233445566778899aabbccddeeff";
const secretHash = lockSecretHash(SECRET);
const recordOf = (version: number, ...keys: (typeof laptop)[]): string =>
  signRecord(laptop, { lock: LOCK, version, secretHash, keys: keys.map(({ key }) => key), shutOut: [stranger.key] });
const [first, second] = [recordOf(1, laptop), recordOf(2, laptop, phone)];
/** One that a join key may carry. */
export const lockRecordOfOurs = first;
const signature = signDevice(laptop, LOCK, phone.key);
const plain = (base64: string): Uint8Array => fromBase64(base64) ?? assert.fail("base64 of ours");

export const lockTargets = (): readonly Target[] => [
  bytes("device lock: record", [plain(first), plain(second)], (input) => {
    const record = toBase64(input);
    const trust = readRecord(record);
    if (trust === undefined) return assert.ok(record !== first && record !== second, "the genuine one is read");
    assert.ok(record === first || record === second, "nobody else has a trusted key");
    assert.ok(trust.keys.length <= TRUSTED_MAX && trust.shutOut.length <= SHUT_OUT_MAX);
  }),
  bytes("device lock: signature", [plain(signature)], (input) => {
    const trust = readRecord(first) ?? assert.fail("a record of ours");
    const given = toBase64(input);
    const by = signerOf(LOCK, phone.key, given);
    if (given !== signature) assert.ok(by !== laptop.key);
    assert.equal(endorsementOf(trust, { key: phone.key, signature: given }) === "signed", given === signature);
  }),
  text(
    "device lock: what the map says of it",
    [
      JSON.stringify({ records: [first, second] }),
      JSON.stringify({ records: [], ended: [{ lock: LOCK, secret: "f".repeat(32) }] }),
    ],
    (input) => {
      const { data } = mapLock.safeParse(tryJson(input));
      const lock = new Lock({ records: [first] }, async () => undefined);
      const before = lock.trust;
      lock.offer(data);
      if (before === undefined || lock.trust === before) return;
      assert.ok(lock.trust !== undefined && follows(before, lock.trust), "it only goes on");
    },
  ),
  text("device lock: secret", [SECRET, "0011-2233-4455-6677-8899-aabb-ccdd-eeff\n"], (input) => {
    const secret = parseLockSecret(input);
    if (secret !== undefined) assert.match(secret, /^[0-9a-f]{32}$/);
  }),
];
