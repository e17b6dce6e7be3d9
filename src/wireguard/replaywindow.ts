import { assert } from "../kit/assert.js";
import { REPLAY_WINDOW_COUNTERS } from "./constants.js";

const WORD_BITS = 32;
const WORDS = REPLAY_WINDOW_COUNTERS / WORD_BITS;

/**
 * Which counters of a session were received (paper §5.4.6, RFC 6479): a ring of bits that follows the greatest.
 * Counters are 64 bits in two halves. The ring's size divides 2^32, so the low half alone finds the bit.
 */
export class ReplayWindow {
  readonly #words = new Uint32Array(WORDS);
  #high = 0;
  #low = -1;

  constructor() {
    assert(2 ** 32 % REPLAY_WINDOW_COUNTERS === 0, "the ring divides 2^32");
  }

  /** The greatest counter so far, in halves: any beyond it is new. The low one is -1 before the first. */
  get greatestHigh(): number {
    return this.#high;
  }

  get greatestLow(): number {
    return this.#low;
  }

  /** Marks the counter; false when it was marked before or lies behind the window. Call it for authentic messages only. */
  accept(high: number, low: number): boolean {
    // Exact while the halves are close; when they are not, only its sign and size are of interest.
    const ahead = (high - this.#high) * 2 ** 32 + (low - this.#low);
    if (ahead > 0) this.#advance(high, low, ahead);
    else if (ahead <= -REPLAY_WINDOW_COUNTERS) return false;
    const word = (low >>> 5) % WORDS;
    const bit = 1 << (low % WORD_BITS);
    const marked = this.#words[word] ?? 0;
    this.#words[word] = marked | bit;
    return (marked & bit) === 0;
  }

  #advance(high: number, low: number, ahead: number): void {
    if (ahead >= REPLAY_WINDOW_COUNTERS) this.#words.fill(0);
    else
      for (let step = 1; step <= ahead; ) {
        // What is new to the ring, a word at a time: from this bit to the word's end or the new greatest.
        const at = (this.#low + step) >>> 0;
        const bits = Math.min(WORD_BITS - (at % WORD_BITS), ahead - step + 1);
        const word = (at >>> 5) % WORDS;
        this.#words[word] = (this.#words[word] ?? 0) & ~((0xffff_ffff >>> (WORD_BITS - bits)) << (at % WORD_BITS));
        step += bits;
      }
    this.#high = high;
    this.#low = low;
  }
}
