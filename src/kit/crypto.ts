import {
  createCipheriv,
  createDecipheriv,
  createHash,
  createHmac,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  type KeyObject,
  sign,
  verify,
} from "node:crypto";
import { xchacha20poly1305 } from "@noble/ciphers/chacha.js";
import { blake2s } from "@noble/hashes/blake2.js";
import { concat, toBase64Url } from "./bytes.js";

/**
 * The primitives under WireGuard and the control channel, all deterministic: no key is made here, chance comes in
 * as an argument. node:crypto does X25519, ChaCha20-Poly1305, BLAKE2s and its HMAC (36 µs against 1.1 ms for a
 * pure-TypeScript X25519); BLAKE2s with a key is not in it, so that one is @noble/hashes.
 */

export type KeyPair = { readonly privateKey: Uint8Array; readonly publicKey: Uint8Array };

export function keyPairOf(privateKey: Uint8Array): KeyPair {
  const { x } = importPrivate(privateKey).export({ format: "jwk" });
  return { privateKey, publicKey: new Uint8Array(Buffer.from(x ?? "", "base64url")) };
}

/** X25519 (RFC 7748 §5); undefined when the result is all zero, as it is for a low-order public key (§6.1). */
export function dh(privateKey: Uint8Array, publicKey: Uint8Array): Uint8Array | undefined {
  try {
    const shared = diffieHellman({ privateKey: importPrivate(privateKey), publicKey: importPublic(publicKey) });
    return shared.some((byte) => byte !== 0) ? new Uint8Array(shared) : undefined;
  } catch {
    return undefined;
  }
}

// RFC 8037 §2, a tenth of the time of DER: OpenSSL's decoders try every format they know (470 µs against 45 µs for
// a private key). Node takes the private key from `d` alone; `x` must be there, and is not read.
const JWK_X25519 = { kty: "OKP", crv: "X25519" } as const;

function importPrivate(privateKey: Uint8Array): KeyObject {
  return (
    kept.get(privateKey) ??
    createPrivateKey({ key: { ...JWK_X25519, d: toBase64Url(privateKey), x: "" }, format: "jwk" })
  );
}

// Only of keys that outlive their use anyway: an ephemeral one's array is wiped, and nothing else may remember it.
const kept = new WeakMap<Uint8Array, KeyObject>();

/** Keeps the imported form of a private key that is used again and again, for as long as its array lives. */
export function keepImported(privateKey: Uint8Array): void {
  kept.set(privateKey, importPrivate(privateKey));
}

function importPublic(publicKey: Uint8Array): KeyObject {
  return createPublicKey({ key: { ...JWK_X25519, x: toBase64Url(publicKey) }, format: "jwk" });
}

export const TAG_BYTES = 16;

/** ChaCha20-Poly1305 (RFC 8439 §2.8); the nonce is 32 zero bits and the counter, little-endian (Noise §12.3). */
export function seal(key: Uint8Array, counter: bigint, plaintext: Uint8Array, associated: Uint8Array): Uint8Array {
  const cipher = createCipheriv("chacha20-poly1305", key, nonceOf(counter), { authTagLength: TAG_BYTES });
  cipher.setAAD(associated, { plaintextLength: plaintext.length });
  return concat(cipher.update(plaintext), cipher.final(), cipher.getAuthTag());
}

/** Undefined when the tag does not match. */
export function open(
  key: Uint8Array,
  counter: bigint,
  ciphertext: Uint8Array,
  associated: Uint8Array,
): Uint8Array | undefined {
  if (ciphertext.length < TAG_BYTES) return undefined;
  const body = ciphertext.subarray(0, ciphertext.length - TAG_BYTES);
  const decipher = createDecipheriv("chacha20-poly1305", key, nonceOf(counter), { authTagLength: TAG_BYTES });
  decipher.setAAD(associated, { plaintextLength: body.length });
  decipher.setAuthTag(ciphertext.subarray(body.length));
  try {
    return concat(decipher.update(body), decipher.final());
  } catch {
    return undefined;
  }
}

/** The same with nothing associated, into a buffer from `at`: `plaintext` may be that very stretch of it. */
export function sealInto(
  key: Uint8Array,
  counter: bigint | number,
  plaintext: Uint8Array,
  into: Uint8Array,
  at: number,
): void {
  const cipher = createCipheriv("chacha20-poly1305", key, nonceOf(counter), { authTagLength: TAG_BYTES });
  into.set(cipher.update(plaintext), at);
  cipher.final();
  into.set(cipher.getAuthTag(), at + plaintext.length);
}

/** The plaintext's length, or -1 and nothing written when the tag does not match. */
export function openInto(
  key: Uint8Array,
  counter: bigint | number,
  ciphertext: Uint8Array,
  into: Uint8Array,
  at: number,
): number {
  const length = ciphertext.length - TAG_BYTES;
  if (length < 0) return -1;
  const decipher = createDecipheriv("chacha20-poly1305", key, nonceOf(counter), { authTagLength: TAG_BYTES });
  decipher.setAuthTag(ciphertext.subarray(length));
  const plaintext = decipher.update(ciphertext.subarray(0, length));
  try {
    decipher.final();
  } catch {
    return -1;
  }
  into.set(plaintext, at);
  return length;
}

function nonceOf(counter: bigint | number): Uint8Array {
  const nonce = new Uint8Array(12);
  new DataView(nonce.buffer).setBigUint64(4, BigInt(counter), true);
  return nonce;
}

export const BOX_NONCE_BYTES = 24;

/** XChaCha20-Poly1305: its nonce of 24 bytes is long enough to be drawn by chance, for messages that have no counter. */
export function boxSeal(key: Uint8Array, nonce: Uint8Array, plaintext: Uint8Array, associated: Uint8Array): Uint8Array {
  return xchacha20poly1305(key, nonce, associated).encrypt(plaintext);
}

/** Undefined when the tag does not match. */
export function boxOpen(
  key: Uint8Array,
  nonce: Uint8Array,
  ciphertext: Uint8Array,
  associated: Uint8Array,
): Uint8Array | undefined {
  if (ciphertext.length < TAG_BYTES) return undefined;
  try {
    return xchacha20poly1305(key, nonce, associated).decrypt(ciphertext);
  } catch {
    return undefined;
  }
}

const BLAKE2S = "blake2s256";

/** BLAKE2s-256 of the parts in a row (RFC 7693). */
export function hash(...parts: readonly Uint8Array[]): Uint8Array {
  const state = createHash(BLAKE2S);
  for (const part of parts) state.update(part);
  return new Uint8Array(state.digest());
}

/** Keyed BLAKE2s with 16 bytes out: WireGuard's Mac (paper §5.4.4). */
export function mac(key: Uint8Array, ...parts: readonly Uint8Array[]): Uint8Array {
  return blake2s(concat(...parts), { key, dkLen: 16 });
}

/** HMAC-BLAKE2s (RFC 2104). */
export function hmac(key: Uint8Array, ...parts: readonly Uint8Array[]): Uint8Array {
  const state = createHmac(BLAKE2S, key);
  for (const part of parts) state.update(part);
  return new Uint8Array(state.digest());
}

/** HKDF as Noise uses it (§4.3), one to three outputs of 32 bytes. */
export function kdf(chainingKey: Uint8Array, input: Uint8Array): [Uint8Array, Uint8Array, Uint8Array] {
  const secret = hmac(chainingKey, input);
  const first = hmac(secret, Uint8Array.of(1));
  const second = hmac(secret, first, Uint8Array.of(2));
  const third = hmac(secret, second, Uint8Array.of(3));
  return [first, second, third];
}

export const ED25519_SIGNATURE_BYTES = 64;
const JWK_ED25519 = { kty: "OKP", crv: "Ed25519" } as const;

/** Ed25519 (RFC 8032 §5.1.6), deterministic; the private key is the 32-byte seed. */
export function signEd25519(seed: Uint8Array, message: Uint8Array): Uint8Array {
  return new Uint8Array(sign(null, message, importSigner(seed)));
}

/** One signer's public key, imported once: that takes a seventh of a verification. */
export type Verifier = {
  /** False for a wrong signature and for a public key that is none. */
  verify(message: Uint8Array, signature: Uint8Array): boolean;
  /** The same in another thread, while this one goes on. */
  verifySoon(message: Uint8Array, signature: Uint8Array): Promise<boolean>;
};

const NOBODY: Verifier = { verify: () => false, verifySoon: async () => false };

/** Of an Ed25519 public key. */
export function verifierOf(publicKey: Uint8Array): Verifier {
  try {
    const key = createPublicKey({ key: { ...JWK_ED25519, x: toBase64Url(publicKey) }, format: "jwk" });
    return {
      verify: (message, signature) => verify(null, message, key, signature),
      verifySoon: (message, signature) =>
        new Promise((resolve) => {
          verify(null, message, key, signature, (error, holds) => resolve(error === null && holds));
        }),
    };
  } catch {
    return NOBODY;
  }
}

/** For one signature of a signer's. */
export const verifyEd25519 = (publicKey: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean =>
  verifierOf(publicKey).verify(message, signature);

/** The public half of a seed. */
export function ed25519PublicKeyOf(seed: Uint8Array): Uint8Array {
  const { x } = createPublicKey(importSigner(seed)).export({ format: "jwk" });
  return new Uint8Array(Buffer.from(x ?? "", "base64url"));
}

function importSigner(seed: Uint8Array): KeyObject {
  const known = signers.get(seed);
  if (known !== undefined) return known;
  const made = createPrivateKey({ key: { ...JWK_ED25519, d: toBase64Url(seed), x: "" }, format: "jwk" });
  signers.set(seed, made);
  return made;
}

// A signer's seed lives as long as the process, and signs at every admission and seal.
const signers = new WeakMap<Uint8Array, KeyObject>();
