import { readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import type { Millis } from "../../src/kit/time.js";

const LOOK_EVERY_MS: Millis = 50;

/**
 * How busy this machine is, so that what is asked of the programs is not asked of it. Of so many that want a processor
 * each gets its share: of six on two processors, every one takes three times as long as alone. And while this process
 * itself does not get a turn, neither may the others.
 */
export class Pace {
  #at = performance.now();
  #wanted = 0;
  #watched = 0;
  #latest = 0;

  constructor() {
    setInterval(() => this.#look(), LOOK_EVERY_MS).unref();
  }

  /** From here on. */
  begin(): void {
    [this.#at, this.#wanted, this.#watched, this.#latest] = [performance.now(), 0, 0, 0];
  }

  /** How long what takes `alone` on a machine of its own may have taken on this one meanwhile. */
  allows(alone: Millis): Millis {
    this.#look();
    return alone * Math.max(1, this.#wanted / this.#watched / availableParallelism()) + this.#latest;
  }

  #look(): void {
    const now = performance.now();
    const passed = now - this.#at;
    this.#at = now;
    // proc_loadavg(5): those that run or want to, this one among them, then all there are.
    const [, runnable = "1"] = / (\d+)\//.exec(readFileSync("/proc/loadavg", "utf8")) ?? [];
    this.#wanted += Number(runnable) * passed;
    this.#watched += passed;
    this.#latest = Math.max(this.#latest, passed - LOOK_EVERY_MS);
  }
}
