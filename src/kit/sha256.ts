import { hmac } from "@noble/hashes/hmac.js";
import { sha256 as digest } from "@noble/hashes/sha2.js";

/** SHA-256 (FIPS 180-4): for what other programs compute as well, such as the hash of an admin token. */
export function sha256(bytes: Uint8Array): Uint8Array {
  return digest(bytes);
}

/** HMAC-SHA-256 (RFC 2104): what receivers of webhooks verify. */
export function hmacSha256(key: Uint8Array, message: Uint8Array): Uint8Array {
  return hmac(digest, key, message);
}
