import type { Millis } from "../kit/time.js";
import { type Rate, TokenBucket } from "../kit/tokenbucket.js";

/** Callers remembered; the one heard longest ago is forgotten, and begins with a full burst again. */
export const CALLERS_MAX = 4_096;

/** So much at once and so much per second, for each of many callers. */
export class Allowance {
  readonly #rate: Rate;
  readonly #buckets = new Map<string, TokenBucket>();

  constructor(rate: Rate) {
    this.#rate = rate;
  }

  /** False when the caller has used up what it may. */
  take(name: string, now: Millis): boolean {
    const bucket = this.#buckets.get(name) ?? new TokenBucket(this.#rate);
    // Last in the order: the first is then the one heard longest ago.
    this.#buckets.delete(name);
    this.#buckets.set(name, bucket);
    const oldest = this.#buckets.keys().next().value;
    if (this.#buckets.size > CALLERS_MAX && oldest !== undefined) this.#buckets.delete(oldest);
    return bucket.spend(1, now);
  }
}
