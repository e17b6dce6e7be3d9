import { concat, utf8 } from "../kit/bytes.js";
import { ED25519_SIGNATURE_BYTES, signEd25519, verifyEd25519 } from "../kit/crypto.js";
import { KEY_BYTES, type Key, keyBytes, keyOf } from "../kit/key.js";
import { MINUTE, type Millis, SECOND } from "../kit/time.js";

/**
 * What the coordinator signs for relays, with an Ed25519 key that serves nothing else. A relay needs the public half
 * and no database.
 *
 *   admission     0  u8   version 1
 *                 1  u8   rate class, an index into RATE_CLASSES
 *                 2  u32  issued, seconds since the epoch
 *                 6  u32  expires
 *                10  32   machine key: who may log in with it
 *                42  32   WireGuard key: where datagrams for it are addressed
 *                74  64   signature over "exitnode admission 1" and what precedes
 *
 *   revocation    0  u8   version 1
 *                 1  u48  issued, milliseconds since the epoch
 *                 7  16   nonce
 *                23  32   machine key or WireGuard key
 *                55  64   signature over "exitnode revocation 1" and what precedes
 *
 * An admission is worth nothing to whoever steals it: the login proves the machine key. It says nothing about which
 * relay, for all relays of a network admit the same devices.
 */
export const ADMISSION_BYTES = 74 + ED25519_SIGNATURE_BYTES;
export const REVOCATION_BYTES = 55 + ED25519_SIGNATURE_BYTES;
const VERSION = 1;
const ADMISSION_PURPOSE = utf8("exitnode admission 1");
const REVOCATION_PURPOSE = utf8("exitnode revocation 1");
export const REVOCATION_NONCE_BYTES = 16;

/** What the coordinator gives: a relay that hears of no revocation still ends a revoked device's stay within it. */
export const ADMISSION_LIFETIME_MS: Millis = 5 * MINUTE;
/** A relay takes no admission that was made for longer. */
export const ADMISSION_LIFETIME_MAX_MS: Millis = 15 * MINUTE;
/**
 * Clocks of coordinator and relay may differ by this much: a machine without a battery for its clock is minutes off
 * after a power cut, and must not lock devices out. A relay that heard of no revocation ends a stay that much later.
 */
export const CLOCK_SKEW_MAX_MS: Millis = 11 * MINUTE;

/** Bytes a second that a device may send, by rate class; a relay may allow less. */
export const RATE_CLASSES: readonly number[] = [1_250_000, 12_500_000, 125_000_000, 1_250_000_000];
const RATE_CLASS_DEFAULT = 2;

export type Admission = {
  readonly machineKey: Key;
  readonly publicKey: Key;
  readonly rateClass: number;
  readonly issuedAt: Millis;
  readonly expiresAt: Millis;
};

export type AdmissionRefusal = "malformed" | "forged" | "expired" | "not-yet" | "too-long";

/** A verified admission, and which of the relay's coordinators made it: that is the network the device is in. */
export type Verified = { readonly admission: Admission; readonly network: number };

export type IssueAdmission = {
  readonly machineKey: Key;
  readonly publicKey: Key;
  readonly rateClass?: number;
  readonly now: Millis;
  readonly lifetimeMs?: Millis;
};

export function issueAdmission(signingKey: Uint8Array, want: IssueAdmission): Uint8Array {
  const body = new Uint8Array(ADMISSION_BYTES - ED25519_SIGNATURE_BYTES);
  const view = new DataView(body.buffer);
  body[0] = VERSION;
  body[1] = want.rateClass ?? RATE_CLASS_DEFAULT;
  const issued = Math.floor(want.now / SECOND);
  view.setUint32(2, issued);
  view.setUint32(6, issued + Math.floor((want.lifetimeMs ?? ADMISSION_LIFETIME_MS) / SECOND));
  body.set(keyBytes(want.machineKey), 10);
  body.set(keyBytes(want.publicKey), 42);
  return concat(body, signEd25519(signingKey, concat(ADMISSION_PURPOSE, body)));
}

/** `signers` are the public keys of the coordinators that a relay serves; `now` is wall time. */
export function verifyAdmission(
  token: Uint8Array,
  signers: readonly Uint8Array[],
  now: Millis,
): Verified | AdmissionRefusal {
  if (token.length !== ADMISSION_BYTES || token[0] !== VERSION) return "malformed";
  const rateClass = token[1] ?? 0;
  if (rateClass >= RATE_CLASSES.length) return "malformed";
  const network = signerOf(token, ADMISSION_PURPOSE, signers);
  if (network < 0) return "forged";
  const view = new DataView(token.buffer, token.byteOffset, token.byteLength);
  const issuedAt = view.getUint32(2) * SECOND;
  const expiresAt = view.getUint32(6) * SECOND;
  if (expiresAt + CLOCK_SKEW_MAX_MS <= now) return "expired";
  if (issuedAt > now + CLOCK_SKEW_MAX_MS) return "not-yet";
  if (expiresAt - issuedAt > ADMISSION_LIFETIME_MAX_MS) return "too-long";
  const [machineKey, publicKey] = [keyOf(token.subarray(10, 42)), keyOf(token.subarray(42, 74))];
  return { network, admission: { machineKey, publicKey, rateClass, issuedAt, expiresAt } };
}

export type Revocation = { readonly key: Key; readonly issuedAt: Millis; readonly nonce: Uint8Array };

export function issueRevocation(signingKey: Uint8Array, key: Key, nonce: Uint8Array, now: Millis): Uint8Array {
  const body = new Uint8Array(REVOCATION_BYTES - ED25519_SIGNATURE_BYTES);
  const view = new DataView(body.buffer);
  body[0] = VERSION;
  view.setUint16(1, Math.floor(now / 0x1_0000_0000));
  view.setUint32(3, now % 0x1_0000_0000);
  body.set(nonce.subarray(0, REVOCATION_NONCE_BYTES), 7);
  body.set(keyBytes(key), 7 + REVOCATION_NONCE_BYTES);
  return concat(body, signEd25519(signingKey, concat(REVOCATION_PURPOSE, body)));
}

/**
 * How long a device that logs in with the admission may stay: until it expires or, where the clocks prove to differ,
 * for as long as it was made for.
 */
export function stayOf({ issuedAt, expiresAt }: Admission, now: Millis): Millis {
  return issuedAt <= now && now < expiresAt ? expiresAt - now : expiresAt - issuedAt;
}

/** Undefined unless one of the signers made it within CLOCK_SKEW_MAX_MS of `now`; who remembers nonces stops replays. */
export function verifyRevocation(
  token: Uint8Array,
  signers: readonly Uint8Array[],
  now: Millis,
): Revocation | undefined {
  if (token.length !== REVOCATION_BYTES || token[0] !== VERSION) return undefined;
  if (signerOf(token, REVOCATION_PURPOSE, signers) < 0) return undefined;
  const view = new DataView(token.buffer, token.byteOffset, token.byteLength);
  const issuedAt = view.getUint16(1) * 0x1_0000_0000 + view.getUint32(3);
  if (Math.abs(issuedAt - now) > CLOCK_SKEW_MAX_MS) return undefined;
  const key = keyOf(token.subarray(7 + REVOCATION_NONCE_BYTES, 7 + REVOCATION_NONCE_BYTES + KEY_BYTES));
  return { key, issuedAt, nonce: new Uint8Array(token.subarray(7, 7 + REVOCATION_NONCE_BYTES)) };
}

/** The index of the key that signed, or -1. */
function signerOf(token: Uint8Array, purpose: Uint8Array, signers: readonly Uint8Array[]): number {
  const signed = concat(purpose, token.subarray(0, -ED25519_SIGNATURE_BYTES));
  const signature = token.subarray(-ED25519_SIGNATURE_BYTES);
  return signers.findIndex((signer) => verifyEd25519(signer, signed, signature));
}
