import { type Millis, SECOND } from "../kit/time.js";

export type AllowanceWant = { readonly perSecond: number; readonly burst: number };

/** Callers remembered; the one heard longest ago is forgotten, and begins with a full burst again. */
export const CALLERS_MAX = 4_096;

/** So much at once and so much per second, for each of many callers: a token bucket by name. */
export class Allowance {
  readonly #want: AllowanceWant;
  readonly #buckets = new Map<string, { left: number; at: Millis }>();

  constructor(want: AllowanceWant) {
    this.#want = want;
  }

  /** False when the caller has used up what it may. */
  take(name: string, now: Millis): boolean {
    const { perSecond, burst } = this.#want;
    const before = this.#buckets.get(name) ?? { left: burst, at: now };
    const left = Math.min(burst, before.left + ((now - before.at) / SECOND) * perSecond);
    // Last in the order: the first is then the one heard longest ago.
    this.#buckets.delete(name);
    this.#buckets.set(name, { left: left < 1 ? left : left - 1, at: now });
    const oldest = this.#buckets.keys().next().value;
    if (this.#buckets.size > CALLERS_MAX && oldest !== undefined) this.#buckets.delete(oldest);
    return left >= 1;
  }
}
