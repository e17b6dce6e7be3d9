import {
  createCipheriv,
  createDecipheriv,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  type KeyObject,
} from "node:crypto";
import { blake2s } from "@noble/hashes/blake2.js";
import { concat } from "./bytes.js";

/**
 * The primitives under WireGuard and the control channel, all deterministic: no key is made here, chance comes in
 * as an argument. node:crypto does X25519 and ChaCha20-Poly1305 (36 µs against 1.1 ms for a pure-TypeScript
 * X25519); BLAKE2s with a key is not in it, so that one is @noble/hashes.
 */

export type KeyPair = { readonly privateKey: Uint8Array; readonly publicKey: Uint8Array };

// DER around 32 raw bytes (RFC 8410 §4 and §7): what node:crypto imports.
const PKCS8_X25519 = Uint8Array.from(Buffer.from("302e020100300506032b656e04220420", "hex"));
const SPKI_X25519 = Uint8Array.from(Buffer.from("302a300506032b656e032100", "hex"));

export function keyPairOf(privateKey: Uint8Array): KeyPair {
  const spki = createPublicKey(importPrivate(privateKey)).export({ format: "der", type: "spki" });
  return { privateKey, publicKey: new Uint8Array(spki.subarray(SPKI_X25519.length)) };
}

/** X25519 (RFC 7748 §5); undefined when the result is all zero, as it is for a low-order public key (§6.1). */
export function dh(privateKey: Uint8Array, publicKey: Uint8Array): Uint8Array | undefined {
  try {
    const shared = diffieHellman({
      privateKey: importPrivate(privateKey),
      publicKey: createPublicKey({ key: Buffer.from(concat(SPKI_X25519, publicKey)), format: "der", type: "spki" }),
    });
    return shared.some((byte) => byte !== 0) ? new Uint8Array(shared) : undefined;
  } catch {
    return undefined;
  }
}

function importPrivate(privateKey: Uint8Array): KeyObject {
  return createPrivateKey({ key: Buffer.from(concat(PKCS8_X25519, privateKey)), format: "der", type: "pkcs8" });
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

function nonceOf(counter: bigint): Uint8Array {
  const nonce = new Uint8Array(12);
  new DataView(nonce.buffer).setBigUint64(4, counter, true);
  return nonce;
}

/** BLAKE2s-256 of the parts in a row (RFC 7693). */
export function hash(...parts: readonly Uint8Array[]): Uint8Array {
  return blake2s(concat(...parts));
}

/** Keyed BLAKE2s with 16 bytes out: WireGuard's Mac (paper §5.4.4). */
export function mac(key: Uint8Array, ...parts: readonly Uint8Array[]): Uint8Array {
  return blake2s(concat(...parts), { key, dkLen: 16 });
}

const HMAC_BLOCK_BYTES = 64;

/** HMAC-BLAKE2s (RFC 2104). */
export function hmac(key: Uint8Array, ...parts: readonly Uint8Array[]): Uint8Array {
  const block = new Uint8Array(HMAC_BLOCK_BYTES);
  block.set(key.length > HMAC_BLOCK_BYTES ? hash(key) : key);
  const inner = block.map((byte) => byte ^ 0x36);
  const outer = block.map((byte) => byte ^ 0x5c);
  return hash(outer, hash(inner, ...parts));
}

/** HKDF as Noise uses it (§4.3), one to three outputs of 32 bytes. */
export function kdf(chainingKey: Uint8Array, input: Uint8Array): [Uint8Array, Uint8Array, Uint8Array] {
  const secret = hmac(chainingKey, input);
  const first = hmac(secret, Uint8Array.of(1));
  const second = hmac(secret, first, Uint8Array.of(2));
  const third = hmac(secret, second, Uint8Array.of(3));
  return [first, second, third];
}
