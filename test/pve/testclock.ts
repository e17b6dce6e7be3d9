import type { Millis } from "../../src/kit/time.js";
import type { Clock } from "../../src/sys/clock.js";

/** Time passes by sleeping on it, at once, or by being told to. */
export class TestClock implements Clock {
  #now: Millis = 0;
  readonly slept: Millis[] = [];

  wall(): Millis {
    return 1_795_000_000_000 + this.#now;
  }
  now(): Millis {
    return this.#now;
  }
  async sleep(duration: Millis, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    this.slept.push(duration);
    this.#now += duration;
  }
  advance(duration: Millis): void {
    this.#now += duration;
  }
}
