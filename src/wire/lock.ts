import * as z from "zod";
import { concat, equalSecrets, fromBase64, fromHex, toBase64, toHex, utf8 } from "../kit/bytes.js";
import {
  ED25519_SIGNATURE_BYTES,
  ed25519PublicKeyOf,
  hash,
  signEd25519,
  type Verifier,
  verifierOf,
  verifyEd25519,
} from "../kit/crypto.js";
import { KEY_BYTES, type Key, keyBytes, keyOf } from "../kit/key.js";
import { key } from "./schema.js";

/**
 * The device lock: peers accept a device only when a trusted device has signed its lock key. Devices sign and verify;
 * the coordinator keeps and distributes what it cannot make, so that whoever takes it over has no device let in.
 *
 *   statement   by a device's lock key, of its other keys: the trusted device signs the lock key alone, and a device
 *               changes its WireGuard key unattended.
 *               Ed25519 over "exitnode lock statement 1" | WireGuard key | discovery key, or 32 zeros
 *
 *   signature   0   32   lock key of the trusted device that signs
 *               32  64   Ed25519 over "exitnode lock device 1" | lock id | lock key of the device
 *
 *   record      the trusted devices; each replaces the one before.
 *               0   u8   version of this format, 1
 *               1   u32  version of the record
 *               5   16   lock id
 *               21  32   hash of the secret that ends the lock
 *               53  u8   how many lock keys are trusted, 1 to TRUSTED_MAX
 *               54  u8   how many are shut out whoever has signed them, 0 to SHUT_OUT_MAX
 *               55  32 each, the trusted ones and then the others, each list in ascending order
 *               …   32   lock key of the signer
 *               …   64   Ed25519 over "exitnode lock record 1" and what precedes
 */
export const LOCK_ID_BYTES = 16;
export const LOCK_SECRET_BYTES = 16;
/** Devices that may sign; a home has two or three. */
export const TRUSTED_MAX = 64;
/** Devices whose signatures were taken back. */
export const SHUT_OUT_MAX = 64;
/** Records kept and told: a device that was away for more changes may find none that it can follow. */
export const LOCK_RECORDS_MAX = 16;
/** Locks that were ended, kept for devices that were away then. */
export const LOCKS_ENDED_MAX = 8;

const FORMAT = 1;
const KEYS_AT = 55;
const recordBytes = (keys: number): number => KEYS_AT + (keys + 1) * KEY_BYTES + ED25519_SIGNATURE_BYTES;
const STATEMENT = utf8("exitnode lock statement 1");
const DEVICE = utf8("exitnode lock device 1");
const RECORD = utf8("exitnode lock record 1");
const SECRET = utf8("exitnode lock secret 1");

/** Base64 of a record. */
export const lockRecord = z.base64().max(4 * Math.ceil(recordBytes(TRUSTED_MAX + SHUT_OUT_MAX) / 3));
/** Base64 of a trusted device's signature. */
export const lockSignature = z.base64().length(128);
/** Hexadecimal. */
export const lockId = z.string().regex(/^[0-9a-f]{32}$/);
export const lockSecret = z.string().regex(/^[0-9a-f]{32}$/);

/** A device's part in the lock, as others are told of it. */
export const deviceLock = z.object({
  key,
  /** Its statement, base64. */
  statement: z.base64().length(88),
  signature: lockSignature.optional(),
});
export type DeviceLock = z.infer<typeof deviceLock>;

/** What every device is told of the lock. */
export const mapLock = z.object({
  /** In the order of their versions; none: there is no lock now. */
  records: z.array(lockRecord).max(LOCK_RECORDS_MAX),
  /** Locks that are no more, each proven by its secret. */
  ended: z
    .array(z.object({ lock: lockId, secret: lockSecret }))
    .max(LOCKS_ENDED_MAX)
    .optional(),
});
export type MapLock = z.infer<typeof mapLock>;

/** Who is trusted, as a record says; the lock's id and the hash of its secret in hexadecimal. */
export type Trust = {
  readonly lock: string;
  readonly version: number;
  readonly secretHash: string;
  readonly keys: readonly Key[];
  /** Not let in whoever has signed for them. */
  readonly shutOut: readonly Key[];
  readonly by: Key;
};

/** A lock key: its Ed25519 seed, and the public half that others know. */
export type LockKey = { readonly seed: Uint8Array; readonly key: Key };

export const lockKeyOf = (seed: Uint8Array): LockKey => ({ seed, key: keyOf(ed25519PublicKeyOf(seed)) });

/** The record as base64; the keys in any order. */
export function signRecord(signer: LockKey, trust: Omit<Trust, "by">): string {
  const trusted = inOrder(trust.keys);
  const shutOut = inOrder(trust.shutOut);
  const keys = [...trusted, ...shutOut];
  const body = new Uint8Array(recordBytes(keys.length) - ED25519_SIGNATURE_BYTES);
  const view = new DataView(body.buffer);
  body[0] = FORMAT;
  view.setUint32(1, trust.version);
  body.set(fromHex(trust.lock) ?? [], 5);
  body.set(fromHex(trust.secretHash) ?? [], 21);
  body[53] = trusted.length;
  body[54] = shutOut.length;
  for (const [at, bytes] of keys.entries()) body.set(bytes, KEYS_AT + at * KEY_BYTES);
  body.set(keyBytes(signer.key), KEYS_AT + keys.length * KEY_BYTES);
  return toBase64(concat(body, signEd25519(signer.seed, concat(RECORD, body))));
}

/** Undefined unless it is a record, whole and in its only form, that its signer has signed. */
export function readRecord(text: string): Trust | undefined {
  const bytes = fromBase64(text);
  const trusted = bytes?.[53] ?? 0;
  const count = trusted + (bytes?.[54] ?? 0);
  if (bytes === undefined || trusted < 1 || trusted > TRUSTED_MAX || count > trusted + SHUT_OUT_MAX) return undefined;
  if (bytes.length !== recordBytes(count) || bytes[0] !== FORMAT) return undefined;
  const keyAt = (at: number): Uint8Array => bytes.subarray(KEYS_AT + at * KEY_BYTES, KEYS_AT + (at + 1) * KEY_BYTES);
  for (let at = 1; at < count; at++)
    if (at !== trusted && Buffer.compare(keyAt(at - 1), keyAt(at)) >= 0) return undefined;
  const version = new DataView(bytes.buffer, bytes.byteOffset).getUint32(1);
  const body = bytes.subarray(0, -ED25519_SIGNATURE_BYTES);
  const signature = bytes.subarray(-ED25519_SIGNATURE_BYTES);
  if (version < 1 || !verifyEd25519(keyAt(count), concat(RECORD, body), signature)) return undefined;
  const keys = Array.from({ length: count }, (_, at) => keyOf(keyAt(at)));
  const shutOut = keys.splice(trusted);
  if (shutOut.some((key) => keys.includes(key))) return undefined;
  return {
    lock: toHex(bytes.subarray(5, 21)),
    version,
    secretHash: toHex(bytes.subarray(21, 53)),
    ...{ keys, shutOut, by: keyOf(keyAt(count)) },
  };
}

/**
 * Whether it replaces `before`: the same lock, a higher version, signed by a device that was trusted until now.
 * Versions may be left out: whoever could sign a record could have signed those before it.
 */
export function follows(before: Trust, after: Trust): boolean {
  const isSameLock = after.lock === before.lock && after.secretHash === before.secretHash;
  return isSameLock && after.version > before.version && before.keys.includes(after.by);
}

/** Hexadecimal, as records hold it; the secret itself is known to whoever wrote it down. */
export const lockSecretHash = (secret: string): string => toHex(hash(SECRET, fromHex(secret) ?? new Uint8Array()));

/** Whether the secret ends this lock; as long as it does not, nothing is learnt from the time it takes. */
export function endsLock({ secretHash }: Trust, secret: string): boolean {
  return equalSecrets(utf8(lockSecretHash(secret)), utf8(secretHash));
}

/** The keys that a device speaks for. */
export type DeviceKeys = { readonly publicKey: Key; readonly discoveryKey?: Key | undefined };

/** The device's word for its own keys, base64. */
export const signStatement = (signer: LockKey, keys: DeviceKeys): string =>
  toBase64(signEd25519(signer.seed, statementOf(keys)));

/** A trusted device's word for another one, base64. */
export const signDevice = (signer: LockKey, lock: string, device: Key): string =>
  toBase64(concat(keyBytes(signer.key), signEd25519(signer.seed, wordFor(lock, device))));

/** Who has signed for the device in this lock, trusted or not; undefined: nobody. */
export function signerOf(lock: string, device: Key, signature: string): Key | undefined {
  const claim = wordClaim(lock, device, signature);
  return claim !== undefined && verifyEd25519(claim.by, claim.words, claim.signature) ? keyOf(claim.by) : undefined;
}

/** How a device stands to the lock. Only "trusted" and "signed" are let in. */
export type Standing = Endorsement | "no-lock-key" | "other-keys";
/** Of a lock key alone. */
export type Endorsement = "trusted" | "signed" | "unsigned" | "shut-out";

/** A device as others are told of it. */
export type LockedKeys = DeviceKeys & { readonly lock?: DeviceLock | undefined };

/** What two verifications find out about a device, whoever is trusted. */
export type Proof = {
  /** Its lock key speaks for its other keys. */
  readonly speaks: boolean;
  /** Who has signed for its lock key; undefined: nobody. */
  readonly by?: Key | undefined;
};

export function proofOf(lock: string, device: LockedKeys): Proof {
  if (device.lock === undefined) return { speaks: false };
  const { key: own, signature } = device.lock;
  const { by, words, signature: statement } = statementClaim(device, device.lock);
  return {
    speaks: verifyEd25519(by, words, statement),
    by: signature === undefined ? undefined : signerOf(lock, own, signature),
  };
}

/** Of many devices, in their order: verified in other threads, while this one goes on. */
export function proofsOf(lock: string, devices: readonly LockedKeys[]): Promise<Proof[]> {
  // A trusted device has signed for many.
  const signers = new Map<Key, Verifier>();
  const holds = async (claim: Claim | undefined): Promise<Key | undefined> => {
    if (claim === undefined) return undefined;
    const by = keyOf(claim.by);
    const verifier = signers.get(by) ?? verifierOf(claim.by);
    signers.set(by, verifier);
    return (await verifier.verifySoon(claim.words, claim.signature)) ? by : undefined;
  };
  return Promise.all(
    devices.map(async (device): Promise<Proof> => {
      if (device.lock === undefined) return { speaks: false };
      const { key: own, signature } = device.lock;
      const word = signature === undefined ? undefined : wordClaim(lock, own, signature);
      const [speaker, by] = await Promise.all([holds(statementClaim(device, device.lock)), holds(word)]);
      return { speaks: speaker !== undefined, by };
    }),
  );
}

/** `trust`: the record in force. A signature counts for as long as its signer is trusted. */
export function standingOf(trust: Trust, device: LockedKeys, proof: Proof = proofOf(trust.lock, device)): Standing {
  if (device.lock === undefined) return "no-lock-key";
  return proof.speaks ? endorsedBy(trust, device.lock.key, () => proof.by) : "other-keys";
}

/** The same of a lock key alone. */
export const endorsementOf = (
  trust: Trust,
  { key: own, signature }: Pick<DeviceLock, "key" | "signature">,
): Endorsement =>
  endorsedBy(trust, own, () => (signature === undefined ? undefined : signerOf(trust.lock, own, signature)));

function endorsedBy(trust: Trust, own: Key, signer: () => Key | undefined): Endorsement {
  if (trust.keys.includes(own)) return "trusted";
  if (trust.shutOut.includes(own)) return "shut-out";
  const by = signer();
  return by !== undefined && trust.keys.includes(by) ? "signed" : "unsigned";
}

/** What people compare, on two screens: 80 bits of the key's hash, which nobody finds another key for. */
export function fingerprintOf(lockKey: Key): string {
  const digits = toHex(hash(keyBytes(lockKey)).subarray(0, 10));
  return (digits.match(/.{4}/g) ?? []).join("-");
}

/** As it is written down, and read back whatever is between its digits. */
export const formatLockSecret = (secret: string): string => (secret.match(/.{4}/g) ?? []).join("-");

/** Undefined when it is none. */
export function parseLockSecret(text: string): string | undefined {
  const digits = text.toLowerCase().replace(/[\s-]/g, "");
  return lockSecret.safeParse(digits).data;
}

const inOrder = (keys: readonly Key[]): Uint8Array[] => [...new Set(keys)].map(keyBytes).sort(Buffer.compare);

/** That `by` has signed these words. */
type Claim = { readonly by: Uint8Array; readonly words: Uint8Array; readonly signature: Uint8Array };

const statementClaim = (device: DeviceKeys, { key: own, statement }: DeviceLock): Claim => ({
  by: keyBytes(own),
  words: statementOf(device),
  signature: fromBase64(statement) ?? new Uint8Array(),
});

function wordClaim(lock: string, device: Key, signature: string): Claim | undefined {
  const bytes = fromBase64(signature);
  if (bytes?.length !== KEY_BYTES + ED25519_SIGNATURE_BYTES) return undefined;
  return { by: bytes.subarray(0, KEY_BYTES), words: wordFor(lock, device), signature: bytes.subarray(KEY_BYTES) };
}

const statementOf = ({ publicKey, discoveryKey }: DeviceKeys): Uint8Array =>
  concat(
    STATEMENT,
    keyBytes(publicKey),
    discoveryKey === undefined ? new Uint8Array(KEY_BYTES) : keyBytes(discoveryKey),
  );

const wordFor = (lock: string, device: Key): Uint8Array =>
  concat(DEVICE, fromHex(lock) ?? new Uint8Array(), keyBytes(device));
