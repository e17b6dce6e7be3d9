import type { Ip } from "../kit/ip.js";
import type { MapPeer } from "../wire/map.js";
import type { Backend, WantInterface } from "../wireguard/interface.js";

/**
 * Stands before the data plane and shuts peers out at once: the rest of a new map (routes, rules, ways) may take as
 * long as it takes, and what was worked out from an older map cannot bring them back.
 */
export class Gate {
  readonly #backend: Backend;
  readonly #forgetFlows: ((addresses: readonly Ip[]) => void) | undefined;
  readonly #expelled = new Set<string>();
  #last: WantInterface | undefined;

  constructor(backend: Backend, forgetFlows?: (addresses: readonly Ip[]) => void) {
    this.#backend = backend;
    this.#forgetFlows = forgetFlows;
  }

  async set(want: WantInterface): Promise<void> {
    this.#last = { ...want, peers: want.peers.filter(({ publicKey }) => !this.#expelled.has(publicKey)) };
    await this.#backend.set(this.#last);
  }

  /** Fulfilled when the data plane takes nothing from them and sends them nothing. */
  async expel(peers: readonly MapPeer[]): Promise<void> {
    for (const { publicKey } of peers) this.#expelled.add(publicKey);
    if (peers.length > 0 && this.#last !== undefined) await this.set(this.#last);
    // Whoever gets their addresses one day is not to get their traffic.
    this.#forgetFlows?.(peers.flatMap(({ addresses }) => addresses));
  }

  /** Who is in the newest map may come in, again too. */
  admit(peers: readonly MapPeer[]): void {
    if (this.#expelled.size > 0) for (const { publicKey } of peers) this.#expelled.delete(publicKey);
  }
}
