import type { Millis } from "../kit/time.js";

/** A token bucket. It may go below zero by one purchase, so that something larger than the bucket passes at all. */
export class TokenBucket {
  readonly #perMs: number;
  readonly #burst: number;
  #tokens: number;
  #at: Millis;

  constructor(perSecond: number, burst: number, now: Millis) {
    this.#perMs = perSecond / 1_000;
    this.#burst = burst;
    this.#tokens = burst;
    this.#at = now;
  }

  /** Takes them however many there are; 0, or how long the buyer has to wait before the next purchase. */
  charge(tokens: number, now: Millis): Millis {
    this.#refill(now);
    this.#tokens -= tokens;
    return this.#tokens >= 0 ? 0 : -this.#tokens / this.#perMs;
  }

  /** Takes them if they are there. */
  spend(tokens: number, now: Millis): boolean {
    this.#refill(now);
    if (this.#tokens < tokens) return false;
    this.#tokens -= tokens;
    return true;
  }

  #refill(now: Millis): void {
    if (now > this.#at) this.#tokens = Math.min(this.#burst, this.#tokens + (now - this.#at) * this.#perMs);
    this.#at = now;
  }
}
