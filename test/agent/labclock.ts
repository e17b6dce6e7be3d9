import type { Millis } from "../../src/kit/time.js";
import type { Clock } from "../../src/sys/clock.js";

type Sleeper = { readonly due: Millis; readonly wake: () => void };

/** Time that passes only when the test says so; sleepers wake in order, and what they do is over before the next does. */
export class LabClock implements Clock {
  #now: Millis = 1_000;
  #sleepers: Sleeper[] = [];

  now(): Millis {
    return this.#now;
  }

  wall(): Millis {
    return 1_795_000_000_000 + this.#now;
  }

  sleep(duration: Millis, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const abort = (): void => {
        this.#sleepers = this.#sleepers.filter((one) => one !== sleeper);
        reject(new Error("aborted"));
      };
      const wake = (): void => {
        signal?.removeEventListener("abort", abort);
        resolve();
      };
      const sleeper = { due: this.#now + duration, wake };
      if (signal?.aborted) return reject(new Error("aborted"));
      signal?.addEventListener("abort", abort, { once: true });
      this.#sleepers.push(sleeper);
    });
  }

  async advance(duration: Millis): Promise<void> {
    const end = this.#now + duration;
    for (;;) {
      await settled();
      const next = this.#sleepers.filter(({ due }) => due <= end).sort((left, right) => left.due - right.due)[0];
      if (next === undefined) break;
      this.#sleepers = this.#sleepers.filter((one) => one !== next);
      this.#now = next.due;
      next.wake();
    }
    this.#now = end;
  }
}

/** Everything that waits for nothing outside this process has been done: a whole turn of the event loop. */
export const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
