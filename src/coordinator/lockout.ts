import { MINUTE, type Millis } from "../kit/time.js";

/** Wrong tokens an address may bring within LOCKOUT_MS before it is not listened to. */
export const ATTEMPTS_MAX = 20;
export const LOCKOUT_MS: Millis = MINUTE;
/** Addresses remembered; the oldest is forgotten. A token has 256 bits: this bounds work and log lines, not guesses. */
const ADDRESSES_MAX = 1_024;

/** Counts wrong tokens by address. */
export class Lockout {
  readonly #failures = new Map<string, { count: number; until: Millis }>();

  isLocked(address: string, now: Millis): boolean {
    const failures = this.#failures.get(address);
    return failures !== undefined && now < failures.until && failures.count >= ATTEMPTS_MAX;
  }

  failed(address: string, now: Millis): void {
    const before = this.#failures.get(address);
    this.#failures.delete(address);
    const count = before !== undefined && now < before.until ? before.count + 1 : 1;
    const until = before !== undefined && now < before.until && count < ATTEMPTS_MAX ? before.until : now + LOCKOUT_MS;
    this.#failures.set(address, { count, until });
    const oldest = this.#failures.keys().next().value;
    if (this.#failures.size > ADDRESSES_MAX && oldest !== undefined) this.#failures.delete(oldest);
  }
}
