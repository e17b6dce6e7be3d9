import type { Millis } from "../../src/kit/time.js";
import type { Clock } from "../../src/sys/clock.js";
import type { Internet } from "../nat/internet.js";
import { settled } from "./labclock.js";

/** The simulated Internet's time, for what waits by promises. */
export class InternetClock implements Clock {
  readonly #internet: Internet;

  constructor(internet: Internet) {
    this.#internet = internet;
  }

  now(): Millis {
    return this.#internet.now;
  }

  wall(): Millis {
    return 1_795_000_000_000 + this.#internet.now;
  }

  sleep(duration: Millis, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(new Error("aborted"));
      signal?.addEventListener("abort", () => reject(new Error("aborted")), { once: true });
      this.#internet.after(duration, resolve);
    });
  }

  /** Lets that much happen, in steps of a millisecond, between which promises have their turn. */
  async run(duration: Millis): Promise<void> {
    for (let passed = 0; passed < duration; passed++) {
      this.#internet.runTo(this.#internet.now + 1);
      await settled();
    }
  }
}
