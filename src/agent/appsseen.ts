import { MINUTE, type Millis } from "../kit/time.js";
import { APPS_TOLD_MAX, type DeviceReport } from "../wire/control.js";
import type { MapPeer } from "../wire/map.js";
import type { InterfaceState } from "../wireguard/interface.js";

/** A session is renewed every two minutes: told each time, all peers of an exit node would hear of that. */
export const TOLD_AGAIN_MS: Millis = 10 * MINUTE;

type Seen = NonNullable<DeviceReport["apps"]>[number];

/** When WireGuard apps were last there, for the coordinator, which never hears from them itself. */
export class AppsSeen {
  #told: readonly Seen[] = [];

  /** The newest first; more than APPS_TOLD_MAX are not told of. */
  get told(): readonly Seen[] {
    return this.#told;
  }

  /** True when there is news: one that comes after a rest, at once. */
  observe({ peers: states }: InterfaceState, peers: readonly MapPeer[], wall: Millis): boolean {
    const apps = peers.filter(({ app }) => app === true);
    if (apps.length === 0 && this.#told.length === 0) return false;
    const ages = new Map(states.map(({ publicKey, lastHandshakeAgeMs }) => [publicKey, lastHandshakeAgeMs]));
    const before = new Map(this.#told.map(({ id, atMs }) => [id, atMs]));
    const now = apps.flatMap(({ id, publicKey }): Seen[] => {
      const age = ages.get(publicKey);
      const told = before.get(id);
      if (age === undefined) return told === undefined ? [] : [{ id, atMs: told }];
      const atMs = Math.round(wall - age);
      return [{ id, atMs: told !== undefined && atMs - told < TOLD_AGAIN_MS ? told : atMs }];
    });
    const newest = now.sort((one, other) => other.atMs - one.atMs).slice(0, APPS_TOLD_MAX);
    const isNews = JSON.stringify(newest) !== JSON.stringify(this.#told);
    this.#told = newest;
    return isNews;
  }
}
