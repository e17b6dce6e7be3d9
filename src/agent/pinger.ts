import { toHex } from "../kit/bytes.js";
import type { Endpoint } from "../kit/endpoint.js";
import { parseIp } from "../kit/ip.js";
import type { Key } from "../kit/key.js";
import { type Millis, SECOND } from "../kit/time.js";
import type { Route } from "../nat/path.js";
import type { Clock } from "../sys/clock.js";
import type { Random } from "../sys/random.js";
import type { MapPeer } from "../wire/map.js";
import { type Probe, TRANSACTION_BYTES } from "../wire/probe.js";

/** `exitnode ping`: how long the way takes that a peer's traffic goes now, direct or through its relay. */

const PING_TIMEOUT_MS: Millis = 2 * SECOND;
/** At a time, of everybody who asks. A further one is lost. */
const PINGS_MAX = 32;

export type PingerWays = {
  seal(peer: Key, probe: Probe): Uint8Array | undefined;
  direct(peer: MapPeer, to: Endpoint, socket: number | undefined, datagram: Uint8Array): void;
  relay(peer: MapPeer, datagram: Uint8Array): void;
};

/** In a pong that comes through a relay: a pong names an endpoint, and there is none. */
const NOWHERE: Endpoint = { address: parseIp("127.0.0.1"), port: 1 };

export class Pinger {
  readonly #parts: { readonly clock: Clock; readonly random: Random };
  readonly #ways: PingerWays;
  readonly #waiting = new Map<string, { readonly peer: Key; answered(): void }>();

  constructor(parts: { readonly clock: Clock; readonly random: Random }, ways: PingerWays) {
    this.#parts = parts;
    this.#ways = ways;
  }

  /** Undefined when nothing came back in time, or there is no way that could be measured. */
  async ping(peer: MapPeer, route: Route): Promise<Millis | undefined> {
    const { clock, random } = this.#parts;
    if (route.kind === "none" || this.#waiting.size >= PINGS_MAX) return undefined;
    const transaction = random(TRANSACTION_BYTES);
    const sealed = this.#ways.seal(peer.publicKey, { kind: "ping", transaction, padding: 0 });
    if (sealed === undefined) return undefined;
    const id = toHex(transaction);
    const began = clock.now();
    const over = new AbortController();
    try {
      const answered = new Promise<Millis>((resolve) => {
        this.#waiting.set(id, { peer: peer.publicKey, answered: () => resolve(clock.now() - began) });
      });
      if (route.kind === "direct") this.#ways.direct(peer, route.endpoint, route.socket, sealed);
      else this.#ways.relay(peer, sealed);
      const late = clock.sleep(PING_TIMEOUT_MS, over.signal).catch(() => undefined);
      return (await Promise.race([answered, late])) ?? undefined;
    } finally {
      over.abort();
      this.#waiting.delete(id);
    }
  }

  /** True when the probe was the answer to one of these, or a question that came through a relay. */
  receive(probe: Probe, from: MapPeer, arrival: "relay" | "direct"): boolean {
    if (probe.kind === "pong") {
      const waiting = this.#waiting.get(toHex(probe.transaction));
      if (waiting?.peer !== from.publicKey) return false;
      waiting.answered();
      return true;
    }
    // A path finder answers only what came directly, for only there does an answer prove a path.
    if (probe.kind !== "ping" || arrival !== "relay") return false;
    const pong: Probe = { kind: "pong", transaction: probe.transaction, source: NOWHERE };
    const sealed = this.#ways.seal(from.publicKey, pong);
    if (sealed !== undefined) this.#ways.relay(from, sealed);
    return true;
  }
}
