import { asFailure } from "../kit/failure.js";
import { MINUTE, type Millis, SECOND } from "../kit/time.js";
import type { Clock } from "../sys/clock.js";
import type { Log } from "../sys/log.js";
import { COORDINATOR } from "./actor.js";
import { type Device, isMember } from "./device.js";
import { expel } from "./expulsion.js";
import type { Registry } from "./registry.js";
import type { Relays } from "./relays.js";
import type { Switchboard } from "./switchboard.js";

/** An ephemeral device that has left is forgotten after this long: a restart, or a bad line, is not a leaving. */
export const EPHEMERAL_KEPT_MS: Millis = 5 * MINUTE;
/** How late a key's end may be told; also how soon a clock that was set right is believed. */
export const UPKEEP_INTERVAL_MS: Millis = SECOND;
/** Ephemeral devices are looked for so often. */
const SWEEP_EVERY = 30;
/** Forgotten in one look; the others wait for the next. */
const FORGOTTEN_AT_ONCE_MAX = 64;

export type UpkeepParts = {
  readonly registry: Registry;
  readonly switchboard: Switchboard;
  readonly relays: Relays;
  readonly clock: Clock;
  readonly log?: Log;
};

/** What happens to devices by time alone: a key ends, an ephemeral device that has left is forgotten. */
export class Upkeep {
  readonly #parts: UpkeepParts;
  readonly #over = new AbortController();
  readonly #since: Millis;

  constructor(parts: UpkeepParts) {
    this.#parts = parts;
    this.#since = parts.clock.now();
    void this.#run();
  }

  close(): void {
    this.#over.abort();
  }

  async #run(): Promise<void> {
    const { clock, registry, switchboard, log } = this.#parts;
    let looked = clock.wall();
    for (let beat = 1; ; beat++) {
      await clock.sleep(UPKEEP_INTERVAL_MS, this.#over.signal).catch(() => undefined);
      if (this.#over.signal.aborted) return;
      const now = clock.wall();
      // Either way: a clock set back gives keys their time again.
      const [from, to] = now < looked ? [now, looked] : [looked, now];
      for (const device of registry.devices.values()) if (endsWithin(device, from, to)) switchboard.changed(device.id);
      looked = now;
      if (beat % SWEEP_EVERY === 0)
        await this.#sweep(now).catch((error: unknown) => {
          log?.error("ephemeral devices were not looked after", { reason: asFailure(error).message });
        });
    }
  }

  /** Nothing right after a start: whoever is to come back has not come yet. */
  async #sweep(now: Millis): Promise<void> {
    const { clock, registry, switchboard, log } = this.#parts;
    if (clock.now() - this.#since < EPHEMERAL_KEPT_MS) return;
    const gone = [...registry.devices.values()].filter(
      (device) => !switchboard.isOnline(device.id) && isForgotten(device, now),
    );
    for (const { id, name } of gone.slice(0, FORGOTTEN_AT_ONCE_MAX)) {
      if (!registry.devices.has(id) || switchboard.isOnline(id)) continue;
      await expel(this.#parts, id, COORDINATOR);
      await registry.remove(id, COORDINATOR);
      log?.info("ephemeral device forgotten", { device: id, name });
    }
  }
}

/** Whether the device's key ends after `from`, and not after `to`. */
export const endsWithin = ({ keyExpiresAtMs }: Device, from: Millis, to: Millis): boolean =>
  keyExpiresAtMs !== undefined && from < keyExpiresAtMs && keyExpiresAtMs <= to;

/** Whether an ephemeral device that is not connected has been away for too long. */
export const isForgotten = (device: Device, now: Millis): boolean =>
  device.ephemeral && isMember(device) && now - (device.lastSeenAtMs ?? device.createdAtMs) >= EPHEMERAL_KEPT_MS;
