import { neighbourhood } from "../kit/neighbourhood.js";
import { HOUR, MINUTE, type Millis } from "../kit/time.js";

/** Wrong tokens an address may bring within LOCKOUT_MS before it is not listened to. */
export const ATTEMPTS_MAX = 20;
/** Of all addresses together: beyond, only those are listened to that were right within TRUST_MS. */
export const ATTEMPTS_OF_ALL_MAX = 2_000;
export const LOCKOUT_MS: Millis = MINUTE;
export const TRUST_MS: Millis = 24 * HOUR;
/** Addresses remembered, of either kind; the oldest is forgotten. */
const ADDRESSES_MAX = 1_024;

type Failures = { count: number; until: Millis };

/**
 * Counts wrong tokens and failed sign-ins, by address and in all. A token has 256 bits: this bounds work and log
 * lines, not guesses.
 */
export class Lockout {
  readonly #failures = new Map<string, Failures>();
  readonly #trusted = new Map<string, Millis>();
  #all: Failures = { count: 0, until: 0 };

  isLocked(address: string, now: Millis): boolean {
    const who = neighbourhood(address);
    if (isOver(this.#failures.get(who), ATTEMPTS_MAX, now)) return true;
    return isOver(this.#all, ATTEMPTS_OF_ALL_MAX, now) && now >= (this.#trusted.get(who) ?? 0);
  }

  failed(address: string, now: Millis): void {
    const who = neighbourhood(address);
    keep(this.#failures, who, oneMore(this.#failures.get(who), ATTEMPTS_MAX, now));
    this.#all = oneMore(this.#all, ATTEMPTS_OF_ALL_MAX, now);
  }

  /** It was the right one: the address is listened to while others guess. */
  succeeded(address: string, now: Millis): void {
    keep(this.#trusted, neighbourhood(address), now + TRUST_MS);
  }
}

const isOver = (failures: Failures | undefined, most: number, now: Millis): boolean =>
  failures !== undefined && now < failures.until && failures.count >= most;

/** The time runs from the first failure, and anew from the one that was too many. */
function oneMore(before: Failures | undefined, most: number, now: Millis): Failures {
  if (before === undefined || now >= before.until) return { count: 1, until: now + LOCKOUT_MS };
  const count = before.count + 1;
  return { count, until: count < most ? before.until : now + LOCKOUT_MS };
}

function keep<T>(map: Map<string, T>, key: string, value: T): void {
  map.delete(key);
  map.set(key, value);
  const oldest = map.keys().next().value;
  if (map.size > ADDRESSES_MAX && oldest !== undefined) map.delete(oldest);
}
