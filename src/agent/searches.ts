import type { Endpoint } from "../kit/endpoint.js";
import type { Millis } from "../kit/time.js";
import type { MapPeer } from "../wire/map.js";
import type { InterfaceState } from "../wireguard/interface.js";
import { nextSearch, type Search } from "./endpoints.js";

/** The peers whose endpoints are tried one after another, because nothing can be asked of them but a handshake. */
export class Searches {
  readonly #searches = new Map<string, Search>();

  /** The endpoint of the list whose turn it is. */
  pick(peer: MapPeer, list: readonly Endpoint[]): Endpoint | undefined {
    return list[(this.#searches.get(peer.id)?.at ?? 0) % Math.max(1, list.length)];
  }

  /** A look at those that are written to; true when another endpoint's turn has come. */
  look(
    peers: readonly MapPeer[],
    state: InterfaceState,
    used: MapPeer | undefined,
    now: Millis,
    count: (peer: MapPeer) => number,
  ): boolean {
    let moved = false;
    for (const peer of peers) {
      const seen = state.peers.find(({ publicKey }) => publicKey === peer.publicKey);
      // Only a peer that is written to can be expected to answer.
      if (peer !== used && (seen?.sentBytes ?? 0) === 0) continue;
      const before = this.#searches.get(peer.id);
      const after = nextSearch(before, count(peer), seen?.lastHandshakeAgeMs, now);
      this.#searches.set(peer.id, after);
      moved ||= before !== undefined && before.at !== after.at;
    }
    for (const id of this.#searches.keys()) if (!peers.some((peer) => peer.id === id)) this.#searches.delete(id);
    return moved;
  }
}
