import { toBase64 } from "../kit/bytes.js";
import { BOX_NONCE_BYTES } from "../kit/crypto.js";
import { type Key, keyBytes } from "../kit/key.js";
import type { Millis } from "../kit/time.js";
import { TokenBucket } from "../kit/tokenbucket.js";
import { decodeProbe, encodeProbe, type Probe, probeKey, probeNonce, probeSender } from "../wire/probe.js";

/**
 * The gate for probes: seals ours to a peer, opens theirs, and drops the rest before anybody spends time on it. A
 * datagram costs a table look-up when its sender is unknown, one Poly1305 when it claims a peer's key. Nothing that is
 * dropped is answered, so nobody can learn from the gate who our peers are.
 */

/** Nonces remembered per peer: ten seconds of the fastest probing we do. An older replay brings one ping, no path. */
export const NONCES_MAX = 1_024;
/** Probes of one peer let in: guessing ports takes 100 a second and a burst of 256. */
export const PROBES_MAX = { perSecond: 200, burst: 600 } as const;

export type GateCounts = {
  accepted: number;
  /** Not shaped like a probe, or a body that is none of ours. */
  malformed: number;
  /** Its sender is not a peer. */
  unknown: number;
  /** It claims a peer's key, and the seal does not match. */
  forged: number;
  replayed: number;
  /** Beyond PROBES_MAX. */
  flooded: number;
};

type Correspondent = {
  readonly peer: string;
  readonly key: Uint8Array;
  readonly nonces: Set<string>;
  /** Only what was opened is paid for: a forger cannot use it up. */
  readonly allowance: TokenBucket;
};

export class ProbeGate {
  readonly counts: GateCounts = { accepted: 0, malformed: 0, unknown: 0, forged: 0, replayed: 0, flooded: 0 };
  readonly #own: { readonly privateKey: Uint8Array; readonly publicKey: Uint8Array };
  readonly #random: (length: number) => Uint8Array;
  #bySender = new Map<Key, Correspondent>();
  #byPeer = new Map<string, Correspondent>();

  constructor(
    own: { readonly privateKey: Uint8Array; readonly publicKey: Uint8Array },
    random: (length: number) => Uint8Array,
  ) {
    this.#own = own;
    this.#random = random;
  }

  /** Who may send probes: the network map's peers. A peer that stays keeps what was remembered of it. */
  setPeers(peers: readonly { readonly peer: string; readonly discoveryKey: Key }[]): void {
    const before = this.#bySender;
    this.#bySender = new Map();
    this.#byPeer = new Map();
    for (const { peer, discoveryKey } of peers) {
      const known = before.get(discoveryKey);
      const entry = known?.peer === peer ? known : this.#meet(peer, discoveryKey);
      if (entry === undefined) continue;
      this.#bySender.set(discoveryKey, entry);
      this.#byPeer.set(peer, entry);
    }
  }

  /** Undefined when there is no such peer (any more). */
  seal(peer: string, probe: Probe): Uint8Array | undefined {
    const entry = this.#byPeer.get(peer);
    if (entry === undefined) return undefined;
    return encodeProbe(probe, this.#own.publicKey, entry.key, this.#random(BOX_NONCE_BYTES));
  }

  /** Who says what; undefined, and counted, when the datagram is to be dropped. */
  open(datagram: Uint8Array, now: Millis): { readonly peer: string; readonly probe: Probe } | undefined {
    const sender = probeSender(datagram);
    if (sender === undefined) return this.#drop("malformed");
    const entry = this.#bySender.get(toBase64(sender) as Key);
    if (entry === undefined) return this.#drop("unknown");
    if (!entry.allowance.has(1, now)) return this.#drop("flooded");
    const nonce = toBase64(probeNonce(datagram));
    if (entry.nonces.has(nonce)) return this.#drop("replayed");
    const probe = decodeProbe(datagram, entry.key);
    if (probe === undefined) return this.#drop("forged");
    entry.allowance.spend(1, now);
    entry.nonces.add(nonce);
    const [oldest] = entry.nonces;
    if (oldest !== undefined && entry.nonces.size > NONCES_MAX) entry.nonces.delete(oldest);
    this.counts.accepted += 1;
    return { peer: entry.peer, probe };
  }

  #meet(peer: string, discoveryKey: Key): Correspondent | undefined {
    const key = probeKey(this.#own.privateKey, keyBytes(discoveryKey));
    return key === undefined ? undefined : { peer, key, nonces: new Set(), allowance: new TokenBucket(PROBES_MAX) };
  }

  #drop(reason: Exclude<keyof GateCounts, "accepted">): undefined {
    this.counts[reason] += 1;
    return undefined;
  }
}
