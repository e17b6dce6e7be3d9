import { toBase64Url, toHex, utf8 } from "../kit/bytes.js";
import { hash } from "../kit/crypto.js";
import type { Key } from "../kit/key.js";
import type { Millis } from "../kit/time.js";
import type { KeyInfo } from "../wire/adminapi.js";
import type { Refusal } from "../wire/control.js";
import type { Role } from "../wire/schema.js";

/** A join key as the store keeps it: the secret only as its hash, which 256 random bits make safe without salt. */
export type StoredKey = {
  readonly id: string;
  readonly secretHash: string;
  readonly role: Role;
  readonly name?: string;
  readonly reusable: boolean;
  readonly createdAtMs: Millis;
  readonly expiresAtMs: Millis;
  readonly revokedAtMs?: Millis;
  readonly usedAtMs?: Millis;
  /** The machine that a single-use key let in. */
  readonly usedBy?: Key;
  /** Whose device it makes. */
  readonly userId?: string;
  readonly tags: readonly string[];
  readonly ephemeral: boolean;
  /** Its devices need no approval. */
  readonly preapproved: boolean;
};

export const SECRET_BYTES = 32;
/** Kept at once; dead ones make room, and when all are valid no more are made. */
export const KEYS_MAX = 1_000;
/** How long `key list` still shows what became of a key. */
const DEAD_KEY_KEPT_MS: Millis = 30 * 24 * 3_600_000;

export const secretText = (random: Uint8Array): string => toBase64Url(random);
export const hashSecret = (secret: string): string => toHex(hash(utf8(`exitnode join secret ${secret}`)));

export function keyState(key: StoredKey, now: Millis): KeyInfo["state"] {
  if (key.revokedAtMs !== undefined) return "revoked";
  if (key.usedAtMs !== undefined && !key.reusable) return "used";
  return now >= key.expiresAtMs ? "expired" : "valid";
}

/** Why the key lets nobody in, or undefined when it does. */
export function keyRefusal(key: StoredKey | undefined, now: Millis): Refusal | undefined {
  if (key === undefined) return "join-key-unknown";
  switch (keyState(key, now)) {
    case "valid":
      return undefined;
    case "revoked":
      return "join-key-unknown";
    case "used":
      return "join-key-used";
    case "expired":
      return "join-key-expired";
  }
}

export function describeKey(key: StoredKey, now: Millis): KeyInfo {
  const { id, role, name, reusable, createdAtMs, expiresAtMs } = key;
  return {
    id,
    role,
    ...(name === undefined ? {} : { name }),
    reusable,
    createdAtMs,
    expiresAtMs,
    state: keyState(key, now),
    ...(key.userId === undefined ? {} : { userId: key.userId }),
    tags: [...key.tags],
    ephemeral: key.ephemeral,
    preapproved: key.preapproved,
  };
}

/** The ids of dead keys that make room for one more: old ones, and the oldest as long as there are KEYS_MAX. */
export function forgettableKeys(keys: readonly StoredKey[], now: Millis): string[] {
  const dead = keys.filter((key) => keyState(key, now) !== "valid").sort((a, b) => a.createdAtMs - b.createdAtMs);
  const excess = keys.length - KEYS_MAX + 1;
  return dead.filter((key, i) => i < excess || now - key.expiresAtMs >= DEAD_KEY_KEPT_MS).map(({ id }) => id);
}
