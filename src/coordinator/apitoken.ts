import { toHex, utf8 } from "../kit/bytes.js";
import { hash } from "../kit/crypto.js";
import { HOUR, type Millis } from "../kit/time.js";
import type { TokenInfo } from "../wire/adminapi.js";

/** An API token as the store keeps it. */
export type StoredToken = {
  readonly id: string;
  /** 256 random bits need no salt. */
  readonly secretHash: string;
  readonly name: string;
  /** As whom it acts: never beyond what that person may at the time. */
  readonly userId?: string;
  readonly scopes: readonly string[];
  readonly createdAtMs: Millis;
  readonly expiresAtMs?: Millis;
  readonly revokedAtMs?: Millis;
  readonly usedAtMs?: Millis;
};

/** Kept at once; dead ones make room. */
export const TOKENS_MAX = 1_000;
const DEAD_TOKEN_KEPT_MS: Millis = 30 * 24 * HOUR;

export const hashToken = (secret: string): string => toHex(hash(utf8(`exitnode api token ${secret}`)));

export function tokenState(token: StoredToken, now: Millis): TokenInfo["state"] {
  if (token.revokedAtMs !== undefined) return "revoked";
  return now >= (token.expiresAtMs ?? Number.POSITIVE_INFINITY) ? "expired" : "valid";
}

export function describeToken(token: StoredToken, now: Millis): TokenInfo {
  const { secretHash: _, revokedAtMs: __, scopes, ...rest } = token;
  return { ...rest, scopes: [...scopes], state: tokenState(token, now) };
}

/** Dead ones: those of long ago, and the oldest as long as there are too many. */
export function forgettableTokens(all: readonly StoredToken[], now: Millis): string[] {
  const dead = all.filter((token) => tokenState(token, now) !== "valid");
  const excess = all.length - TOKENS_MAX + 1;
  return dead
    .filter((token, i) => i < excess || now - (token.revokedAtMs ?? token.expiresAtMs ?? now) >= DEAD_TOKEN_KEPT_MS)
    .map(({ id }) => id);
}
