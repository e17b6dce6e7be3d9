import { Failure } from "../kit/failure.js";
import type { Millis } from "../kit/time.js";
import type { Clock } from "../sys/clock.js";

/**
 * Another task holds the container or its config file (a backup, a migration): refused before anything was done, so
 * asking again is safe. Each pause is longer; then the Failure passes.
 */
const BUSY_TRIES_MAX = 6;
const BUSY_PAUSE_MS: Millis = 500;
const BUSY = new Set(["container-locked", "host-busy"]);

export async function patiently<T>(
  { clock, signal }: { readonly clock: Clock; readonly signal: AbortSignal },
  ask: () => Promise<T>,
): Promise<T> {
  for (let tries = 1; ; tries++) {
    try {
      return await ask();
    } catch (error) {
      if (!(error instanceof Failure) || !BUSY.has(error.code) || tries >= BUSY_TRIES_MAX) throw error;
      await clock.sleep(BUSY_PAUSE_MS * 2 ** (tries - 1), signal);
    }
  }
}
