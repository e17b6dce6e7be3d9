import { fromBase64, toBase64 } from "./bytes.js";
import { Failure } from "./failure.js";

/** A 32-byte Curve25519 key, private or public, or a preshared key, as `wg` writes it: 44 base64 characters. */
export type Key = string & { readonly unit: "key" };

export const KEY_BYTES = 32;

export function tryKey(text: string): Key | undefined {
  return fromBase64(text)?.length === KEY_BYTES ? (text as Key) : undefined;
}

/** The text itself is left out of the error: it may be a private key. */
export function parseKey(text: string): Key {
  const key = tryKey(text);
  if (key === undefined)
    throw new Failure("key-invalid", `a key must be 44 base64 characters (32 bytes), got ${text.length} characters`);
  return key;
}

export function keyOf(bytes: Uint8Array): Key {
  return parseKey(toBase64(bytes));
}

export function keyBytes(key: Key): Uint8Array {
  const bytes = fromBase64(key);
  if (bytes === undefined) throw new Error("a Key that is not base64");
  return bytes;
}
