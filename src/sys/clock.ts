import { setTimeout as delay } from "node:timers/promises";
import type { Millis } from "../kit/time.js";

export interface Clock {
  /** Since the epoch: for timestamps that leave this process. */
  wall(): Millis;
  /** Never goes back: for timers and ages. */
  now(): Millis;
  sleep(duration: Millis, signal?: AbortSignal): Promise<void>;
}

export const systemClock: Clock = {
  wall: () => Date.now(),
  now: () => performance.now(),
  async sleep(duration, signal) {
    await delay(duration, undefined, signal === undefined ? {} : { signal });
  },
};
