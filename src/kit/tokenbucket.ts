import { type Millis, SECOND } from "./time.js";

/** So much at once, and so much a second. */
export type Rate = { readonly perSecond: number; readonly burst: number };

/**
 * A token bucket, full at first. A clock that steps back neither gives nor takes: time is counted anew from there. A
 * moment that is no number is none.
 */
export class TokenBucket {
  readonly #perMs: number;
  readonly #burst: number;
  #tokens: number;
  #at: Millis = Number.NaN;

  constructor({ perSecond, burst }: Rate) {
    this.#perMs = perSecond / SECOND;
    this.#burst = burst;
    this.#tokens = burst;
  }

  /** True when so many are there; they stay. */
  has(tokens: number, now: Millis): boolean {
    this.#refill(now);
    return this.#tokens >= tokens;
  }

  /** Takes them if they are there. */
  spend(tokens: number, now: Millis): boolean {
    const there = this.has(tokens, now);
    if (there) this.#tokens -= tokens;
    return there;
  }

  /**
   * Takes them however many there are; 0, or how long the buyer has to wait before the next purchase. One purchase may
   * leave less than nothing, so that something larger than the bucket passes at all.
   */
  charge(tokens: number, now: Millis): Millis {
    this.#refill(now);
    this.#tokens -= tokens;
    return this.#tokens >= 0 ? 0 : -this.#tokens / this.#perMs;
  }

  #refill(now: Millis): void {
    if (!Number.isFinite(now)) return;
    if (now > this.#at) this.#tokens = Math.min(this.#burst, this.#tokens + (now - this.#at) * this.#perMs);
    this.#at = now;
  }
}
