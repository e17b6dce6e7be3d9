import { type Endpoint, formatEndpoint, tryEndpoint } from "../kit/endpoint.js";
import type { Key } from "../kit/key.js";
import type { Millis } from "../kit/time.js";
import type { MapPeer, NetworkMap } from "../wire/map.js";
import type { InterfaceState, WantInterface } from "../wireguard/interface.js";
import { greetHeard } from "./desired.js";
import { isLoopback } from "./loopback.js";
import type { Memory } from "./memory.js";

/**
 * A peer notices by itself that its session is gone, after 15 s without an answer (WireGuard paper §6.2 and §6.5).
 * For this long after its start an exit node calls those it knew, and they need not wait.
 */
export const GREETING_MS: Millis = 20_000;

/** Where an exit node's peers were last heard from: they are behind NATs of their own, and it is the best guess there is. */
export class Greeting {
  readonly #isExit: boolean;
  readonly #until: Millis;
  readonly #earlier: Memory["heard"];
  heard: Memory["heard"];
  #over: boolean;
  /** Peers to be called because a key of theirs, or ours, is new: until then. */
  readonly #rekeyed = new Map<Key, Millis>();

  /** `heard` is of an earlier run. Only an exit node greets: the others call whom they need. */
  constructor(isExit: boolean, heard: Memory["heard"], now: Millis) {
    this.#isExit = isExit;
    this.heard = heard;
    this.#earlier = heard;
    this.#over = !isExit;
    this.#until = now + GREETING_MS;
  }

  /**
   * Of an app, as it was in an earlier run: WireGuard follows it by itself, and what was heard a moment ago would send
   * it back to where it was then.
   */
  of(peer: MapPeer): Endpoint | undefined {
    const heard = peer.app === true ? this.#earlier : this.heard;
    return this.#isExit ? tryEndpoint(heard[peer.publicKey] ?? "") : undefined;
  }

  /** Whether this peer is to be called now. */
  calls(peer: MapPeer): boolean {
    return !this.#over && this.heard[peer.publicKey] !== undefined;
  }

  apply(want: WantInterface): WantInterface {
    const greeted = this.#over ? want : greetHeard(want, this.heard);
    return this.#rekeyed.size === 0 ? greeted : greetHeard(greeted, Object.fromEntries(this.#rekeyed));
  }

  /** Peers with another key than before; without `before`, all of them: the key that is new is ours. */
  rekeyed(before: NetworkMap | undefined, after: NetworkMap | undefined, now: Millis): void {
    const keys = new Map(before?.peers.map(({ id, publicKey }) => [id, publicKey]));
    for (const { id, publicKey } of after?.peers ?? [])
      if (before === undefined || (keys.get(id) ?? publicKey) !== publicKey)
        this.#rekeyed.set(publicKey, now + GREETING_MS);
  }

  /** True once, when the time of greeting is over. */
  ends(now: Millis): boolean {
    const called = this.#rekeyed.size;
    for (const [key, until] of this.#rekeyed) if (now > until) this.#rekeyed.delete(key);
    if (called > 0 && this.#rekeyed.size === 0) return true;
    if (this.#over || now <= this.#until) return false;
    this.#over = true;
    return true;
  }

  /** Takes in where peers are heard from now; true when that is news. */
  note(state: InterfaceState): boolean {
    if (!this.#isExit) return false;
    const heard: Record<string, string> = {};
    for (const { publicKey, endpoint, lastHandshakeAgeMs } of state.peers)
      if (endpoint !== undefined && lastHandshakeAgeMs !== undefined && !isLoopback(endpoint.address))
        heard[publicKey] = formatEndpoint(endpoint);
    // Until a peer has answered in this run, what an earlier run heard stands.
    const all = this.#over ? heard : { ...this.heard, ...heard };
    if (JSON.stringify(all) === JSON.stringify(this.heard)) return false;
    this.heard = all;
    return true;
  }
}
