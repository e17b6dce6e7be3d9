import { type Millis, SECOND } from "../kit/time.js";

/** What a peer may cost us: so much at once, and so much a second (a token bucket). */
export class Allowance {
  readonly #burst: number;
  readonly #perSecond: number;
  #left: number;
  #at: Millis = -Infinity;

  constructor(burst: number, perSecond: number) {
    this.#burst = burst;
    this.#perSecond = perSecond;
    this.#left = burst;
  }

  has(now: Millis): boolean {
    const gained = (Math.max(0, now - this.#at) / SECOND) * this.#perSecond;
    this.#left = Math.min(this.#burst, this.#left + gained);
    this.#at = now;
    return this.#left >= 1;
  }

  pay(): void {
    this.#left -= 1;
  }
}
