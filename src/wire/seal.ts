import * as z from "zod";
import { concat, fromBase64, toBase64, utf8 } from "../kit/bytes.js";
import { hash, kdf, signEd25519, verifyEd25519 } from "../kit/crypto.js";
import type { Millis } from "../kit/time.js";

/**
 * The coordinator's word for a device's map, kept beside it on the device's disk: what was altered there is not
 * believed after a restart. It covers the JSON text of each peer and of each part of the head, so that a device can
 * check what it does not understand, and it names no end: a device works from its map for as long as it must.
 *
 *   digest     BLAKE2s over the lines `name:text` of the head, sorted, an empty one, and the peers' hashes, sorted
 *   signature  Ed25519 over "exitnode map seal 1" | u64 seq | u64 issued | digest
 */
const PURPOSE = utf8("exitnode map seal 1");

export const mapSeal = z.object({
  seq: z.number().int().nonnegative(),
  issuedAtMs: z.number().int().nonnegative(),
  signature: z.base64().max(128),
});
export type MapSeal = z.infer<typeof mapSeal>;

/** What signs maps: made from the coordinator's Noise key, so that it goes wherever that one goes. */
export const sealSeed = (noisePrivateKey: Uint8Array): Uint8Array => kdf(noisePrivateKey, PURPOSE)[0];

/** Of a peer's JSON text. */
export const peerHash = (text: string): string => toBase64(hash(utf8(text)));

/** `head`: the parts' JSON texts by name; `peers`: peerHash of each, in any order. */
export function mapDigest(head: ReadonlyMap<string, string>, peers: readonly string[]): Uint8Array {
  const lines = [...head].map(([name, text]) => `${name}:${text}`).sort();
  return hash(utf8([...lines, "", ...[...peers].sort()].join("\n")));
}

export function issueSeal(seed: Uint8Array, seq: number, digest: Uint8Array, now: Millis): MapSeal {
  const issuedAtMs = Math.floor(now);
  return { seq, issuedAtMs, signature: toBase64(signEd25519(seed, statement(seq, issuedAtMs, digest))) };
}

/** Whether the holder of the key has sealed exactly this. */
export function sealFits(publicKey: Uint8Array, seal: MapSeal, digest: Uint8Array): boolean {
  const signature = fromBase64(seal.signature);
  return signature !== undefined && verifyEd25519(publicKey, statement(seal.seq, seal.issuedAtMs, digest), signature);
}

function statement(seq: number, issuedAtMs: Millis, digest: Uint8Array): Uint8Array {
  const numbers = new DataView(new ArrayBuffer(16));
  numbers.setBigUint64(0, BigInt(seq));
  numbers.setBigUint64(8, BigInt(issuedAtMs));
  return concat(PURPOSE, new Uint8Array(numbers.buffer), digest);
}
