import type { Family } from "../kit/ip.js";
import type { Millis } from "../kit/time.js";

/**
 * The largest IP packet that passes a direct path, found by padded pings that must not be fragmented, as RFC 8899
 * (§5.3) has it for datagrams: no router's message is needed, only an answer. The usual sizes come first, then halving.
 */

/** Ethernet; larger ones are for local networks, where nothing is gained at a home's speed. */
const MTU_MAX = 1_500;
/** RFC 791 asks every host for 576; RFC 8200 §5 asks every link for 1280. */
const MTU_MIN: Record<Family, number> = { 4: 576, 6: 1_280 };
/** IP and UDP header, which a ping's size does not count. */
export const UDP_OVERHEAD_BYTES: Record<Family, number> = { 4: 28, 6: 48 };
/** WireGuard's header and tag in addition (paper §5.4.6). */
const WIREGUARD_OVERHEAD_BYTES = 32;
const MTU_TRIES = 3;
/** A tunnel's packet of this size fits a path of 1500 bytes over either family. */
export const TUNNEL_MTU_MAX = 1_420;
/** Near enough: fewer bytes than this are not worth another round trip. */
const MTU_STEP_BYTES = 4;
/** Once found, it is looked for again now and then: paths change. */
export const MTU_AGAIN_MS: Millis = 10 * 60_000;
const USUAL = [1_500, 1_280, 1_420];

/** The inner packet that fits a path. */
export const tunnelMtu = (pathMtu: number, family: Family): number =>
  pathMtu - UDP_OVERHEAD_BYTES[family] - WIREGUARD_OVERHEAD_BYTES;

/**
 * The MTU of a tunnel whose paths carry these inner packets: the narrowest counts. Never below `least`, for IPv6 inside
 * the tunnel needs 1280 (RFC 8200 §5); what is too long for a path goes in fragments of the outer datagram.
 */
export const fittingMtu = (carried: readonly number[], least: number): number =>
  Math.max(least, Math.min(TUNNEL_MTU_MAX, ...carried));

export class MtuSearch {
  readonly #timeout: Millis;
  readonly #usual = [...USUAL];
  /** Sizes up to `low` are proven or promised by the RFCs; those not answered in time are lost, unless they are late. */
  #low: number;
  readonly #lost = new Set<number>([MTU_MAX + 1]);
  #size: number | undefined;
  #tries = 0;
  #dueAt: Millis;

  constructor(family: Family, roundTripMs: Millis, now: Millis) {
    this.#low = MTU_MIN[family];
    this.#timeout = Math.max(200, 2 * roundTripMs + 50);
    this.#dueAt = now;
    this.#choose();
  }

  /** The path's MTU, once the search is over. */
  get found(): number | undefined {
    return this.#size === undefined ? this.#low : undefined;
  }

  get deadline(): Millis | undefined {
    return this.#size === undefined ? undefined : this.#dueAt;
  }

  /** The size of the packet to send now, if any. */
  tick(now: Millis): number | undefined {
    if (this.#size === undefined || now < this.#dueAt) return undefined;
    if (this.#tries === MTU_TRIES) {
      this.#lost.add(this.#size);
      this.#choose();
      if (this.#size === undefined) return undefined;
    }
    this.#tries += 1;
    this.#dueAt = now + this.#timeout;
    return this.#size;
  }

  /** A ping of this size was answered. A late answer, of a line or a machine that is busy, takes back what was lost. */
  passed(size: number, now: Millis): void {
    if (size <= this.#low) return;
    this.#low = size;
    this.#choose();
    this.#dueAt = now;
  }

  /** The smallest that is lost. */
  get #high(): number {
    return Math.min(...[...this.#lost].filter((size) => size > this.#low));
  }

  #choose(): void {
    this.#tries = 0;
    for (let size = this.#usual.shift(); size !== undefined; size = this.#usual.shift())
      if (size > this.#low && size < this.#high) {
        this.#size = size;
        return;
      }
    const step = Math.floor((this.#high - this.#low) / 2 / MTU_STEP_BYTES) * MTU_STEP_BYTES;
    this.#size = step === 0 ? undefined : this.#low + step;
  }
}
