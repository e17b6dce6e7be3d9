import { type Millis, SECOND } from "../kit/time.js";
import type { Clock } from "../sys/clock.js";

/**
 * The least time between two seals of one device, which does not know whoever came since when it restarts without the
 * coordinator. It spares small networks the writes of a busy minute; large ones have SEALS_PER_ROUND.
 */
export const SEAL_INTERVAL_MS: Millis = 3 * SECOND;
/** A map is sealed when nothing has changed for so long: what comes in pieces is sealed once. */
export const SEAL_QUIET_MS: Millis = SECOND;
const ROUND_MS: Millis = SECOND / 4;
/** 0.2 ms each: a network that starts anew has its seals within some minutes and its processor to itself. */
export const SEALS_PER_ROUND = 50;

/** When each device's map is to be sealed: soon after a change, and at once after a removal. */
export class Sealing {
  readonly #clock: Clock;
  readonly #seal: (deviceId: string) => boolean;
  readonly #dueAt = new Map<string, Millis>();
  readonly #sealedAt = new Map<string, Millis>();
  #running = false;
  readonly #over = new AbortController();

  /** `seal` says false when it is to be tried again. */
  constructor(clock: Clock, seal: (deviceId: string) => boolean) {
    this.#clock = clock;
    this.#seal = seal;
  }

  /** The device has been told something. */
  want(deviceId: string): void {
    const now = this.#clock.now();
    const before = this.#dueAt.get(deviceId) ?? Number.POSITIVE_INFINITY;
    const next = (this.#sealedAt.get(deviceId) ?? Number.NEGATIVE_INFINITY) + SEAL_INTERVAL_MS;
    this.#put(deviceId, Math.min(before, Math.max(now + SEAL_QUIET_MS, next)));
  }

  /** As soon as there is time. */
  hurry(deviceId: string): void {
    this.#put(deviceId, this.#clock.now());
  }

  close(): void {
    this.#over.abort();
  }

  #put(deviceId: string, at: Millis): void {
    this.#dueAt.set(deviceId, at);
    if (this.#running) return;
    this.#running = true;
    void this.#run();
  }

  async #run(): Promise<void> {
    while (this.#dueAt.size > 0 && !this.#over.signal.aborted) {
      await this.#clock.sleep(ROUND_MS, this.#over.signal).catch(() => undefined);
      if (!this.#over.signal.aborted) this.#round();
    }
    this.#running = false;
  }

  #round(): void {
    const now = this.#clock.now();
    let left = SEALS_PER_ROUND;
    for (const [id, at] of this.#dueAt) {
      if (at > now) continue;
      if (left-- === 0) break;
      this.#dueAt.delete(id);
      this.#sealedAt.delete(id);
      if (this.#seal(id)) this.#sealedAt.set(id, now);
      else this.#dueAt.set(id, now + SEAL_QUIET_MS);
    }
    // Only those that could be asked for again too early.
    for (const [id, at] of this.#sealedAt) {
      if (at > now - SEAL_INTERVAL_MS) break;
      this.#sealedAt.delete(id);
    }
  }
}
