import type { Millis } from "../kit/time.js";
import { TIMESTAMP_STEP_NS } from "./constants.js";

/**
 * TAI64N (paper §5.4.2): an initiation's timestamp, and what makes its replay void.
 *
 *   0  u64 BE  2^62 + 10 + seconds since 1970 (the ten seconds are TAI's distance from UTC then)
 *   8  u32 BE  nanoseconds
 */
export const TAI64N_BYTES = 12;

const EPOCH_HIGH = 0x4000_0000;
const EPOCH_LOW = 10;
const STEPS_PER_SECOND = Math.ceil(1e9 / TIMESTAMP_STEP_NS);

/** Hands out timestamps that grow even when the wall clock stands still or goes back. */
export class Timestamps {
  #seconds = -1;
  #step = 0;

  next(wallMs: Millis): Uint8Array {
    const seconds = Math.floor(wallMs / 1000);
    const step = Math.floor(((wallMs - seconds * 1000) * 1e6) / TIMESTAMP_STEP_NS);
    if (seconds > this.#seconds || (seconds === this.#seconds && step > this.#step)) {
      this.#seconds = seconds;
      this.#step = step;
    } else if (++this.#step >= STEPS_PER_SECOND) {
      this.#seconds++;
      this.#step = 0;
    }
    return encode(this.#seconds, this.#step * TIMESTAMP_STEP_NS);
  }
}

/** Paper §5.1: the responder takes an initiation only when its timestamp is greater than the greatest it has seen. */
export function isLater(timestamp: Uint8Array, than: Uint8Array): boolean {
  for (let i = 0; i < TAI64N_BYTES; i++) {
    const difference = (timestamp[i] ?? 0) - (than[i] ?? 0);
    if (difference !== 0) return difference > 0;
  }
  return false;
}

function encode(seconds: number, nanoseconds: number): Uint8Array {
  const bytes = new Uint8Array(TAI64N_BYTES);
  const view = new DataView(bytes.buffer);
  const low = seconds + EPOCH_LOW;
  view.setUint32(0, EPOCH_HIGH + Math.floor(low / 2 ** 32));
  view.setUint32(4, low % 2 ** 32);
  view.setUint32(8, nanoseconds);
  return bytes;
}
