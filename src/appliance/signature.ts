import { concat, fromBase64, fromHex, toBase64 } from "../kit/bytes.js";
import { ED25519_SIGNATURE_BYTES, ed25519PublicKeyOf, signEd25519, verifyEd25519 } from "../kit/crypto.js";
import { Failure } from "../kit/failure.js";
import { type Key, keyBytes, keyOf, tryKey } from "../kit/key.js";

/**
 * Who built a template: an Ed25519 signature over its manifest, 64 bytes in a file beside it, and keys as OpenSSL reads
 * and writes them (PEM), so that a signature can be checked without this program.
 */

const SEED_BYTES = 32;
// RFC 8410 §7 and §4: everything before the key itself, for both forms is always the same.
const PRIVATE_HEAD = hex("302e020100300506032b657004220420");
const PUBLIC_HEAD = hex("302a300506032b6570032100");

export const privateKeyText = (seed: Uint8Array): string => pem("PRIVATE KEY", concat(PRIVATE_HEAD, seed));

export const publicKeyText = (publicKey: Key): string => pem("PUBLIC KEY", concat(PUBLIC_HEAD, keyBytes(publicKey)));

export const publicKeyOf = (seed: Uint8Array): Key => keyOf(ed25519PublicKeyOf(seed));

/** The seed in a private key's file. The text itself is in no error. */
export function parsePrivateKey(text: string, path: string): Uint8Array {
  const seed = unwrap(text, "PRIVATE KEY", PRIVATE_HEAD);
  if (seed?.length === SEED_BYTES) return seed;
  throw new Failure("signing-key-invalid", `${path} is not an Ed25519 private key in PEM`, {
    advice: `move ${path} away and run the command again: a new key is made, and verify must be told the new public key`,
  });
}

/** A public key as it is printed (44 base64 characters), or a PEM file's text; undefined for anything else. */
export function tryPublicKey(text: string): Key | undefined {
  const inside = unwrap(text, "PUBLIC KEY", PUBLIC_HEAD);
  return inside?.length === 32 ? keyOf(inside) : tryKey(text.trim());
}

export const signManifest = (seed: Uint8Array, manifest: Uint8Array): Uint8Array => signEd25519(seed, manifest);

export function isSignedBy(publicKey: Key, manifest: Uint8Array, signature: Uint8Array): boolean {
  return signature.length === ED25519_SIGNATURE_BYTES && verifyEd25519(keyBytes(publicKey), manifest, signature);
}

function pem(label: string, content: Uint8Array): string {
  return `-----BEGIN ${label}-----\n${toBase64(content)}\n-----END ${label}-----\n`;
}

function unwrap(text: string, label: string, head: Uint8Array): Uint8Array | undefined {
  const body = new RegExp(`^-----BEGIN ${label}-----\\s+([A-Za-z0-9+/=\\s]+?)\\s+-----END ${label}-----\\s*$`).exec(
    text,
  );
  const content = fromBase64((body?.[1] ?? "").replace(/\s/g, ""));
  if (content === undefined || content.length <= head.length) return undefined;
  return head.every((byte, at) => content[at] === byte) ? content.subarray(head.length) : undefined;
}

function hex(text: string): Uint8Array {
  const bytes = fromHex(text);
  if (bytes === undefined) throw new Error("a constant that is not hex");
  return bytes;
}
