import { type Endpoint, formatEndpoint } from "../kit/endpoint.js";
import { familyOf } from "../kit/ip.js";
import { MINUTE, type Millis, SECOND } from "../kit/time.js";
import type { Way } from "./pathchoice.js";
import { MTU_AGAIN_MS, MtuSearch } from "./pathmtu.js";
import type { Trial } from "./trials.js";

/**
 * A direct path in use: how long a proof of it is believed, when it is pinged next, and how large its packets may be.
 *
 * A pong proves both ways. So do WireGuard's own datagrams that come in by the path: none is taken that the peer has not
 * sent, and none is sent three minutes after the last handshake (paper §6.1), which takes both. Thus an agent may be
 * away for as long as it likes where the kernel carries the session.
 */

export const HEARTBEAT_MS: Millis = 3 * SECOND;
/** While a heartbeat is unanswered, the next comes sooner: one lost datagram is no dead path. */
const HEARTBEAT_AGAIN_MS: Millis = SECOND;
/** After the last proof. Back on the relay within 7 s is what users are promised. */
export const TRUST_MS: Millis = 6.5 * SECOND;
/** From here on traffic goes both ways: two heartbeats are unanswered. */
const SUSPECT_MS: Millis = 5 * SECOND;
/** For so long after its loss a path that has only fallen silent is written to as well as the relay. */
export const LINGER_MS: Millis = 30 * SECOND;
/** How often the other endpoints are looked at for a better one. */
export const UPGRADE_MS: Millis = MINUTE;
/** The first second belongs to the choice among endpoints. */
const MEASURE_AFTER_MS: Millis = SECOND;

export class DirectPath {
  readonly trial: Trial;
  readonly since: Millis;
  /** The peer called: it has lost us, or moved. What comes in says nothing of what goes out; the next pong clears it. */
  inDoubt = false;
  upgradeAt: Millis;
  mtu: number | undefined;
  #mtuSearch: MtuSearch | undefined;
  #mtuAt: Millis;
  #carriedAt: Millis = -Infinity;

  constructor(trial: Trial, now: Millis) {
    this.trial = trial;
    this.since = now;
    this.upgradeAt = now + UPGRADE_MS;
    this.#mtuAt = now + MEASURE_AFTER_MS;
  }

  get way(): Way {
    return { endpoint: this.trial.endpoint, roundTripMs: this.trial.pong?.roundTripMs ?? Infinity };
  }

  get suspectAt(): Millis {
    return this.#provenAt + SUSPECT_MS;
  }

  get heartbeatAt(): Millis {
    const isAnswered = this.trial.pong !== undefined && this.trial.pong.at >= this.trial.pingedAt;
    return this.trial.pingedAt + (isAnswered ? HEARTBEAT_MS : HEARTBEAT_AGAIN_MS);
  }

  /** `wokenAt`: when traffic began after a pause. What nobody pinged is not lost by silence. */
  lostAt(wokenAt: Millis): Millis {
    return Math.max(this.#provenAt, wokenAt) + TRUST_MS;
  }

  isProven(now: Millis): boolean {
    return !this.inDoubt && now < this.suspectAt;
  }

  get givenUpAt(): Millis {
    return this.#provenAt + TRUST_MS + LINGER_MS;
  }

  /** WireGuard has heard the peer from there, not before `since`; whether that is a proof of this path. */
  carried(from: Endpoint, since: Millis): boolean {
    const { endpoint, socket } = this.trial;
    if (this.inDoubt || socket !== undefined || formatEndpoint(endpoint) !== formatEndpoint(from)) return false;
    this.#carriedAt = Math.max(this.#carriedAt, since);
    return true;
  }

  /** When an active path wants something next. */
  deadline(wokenAt: Millis): Millis {
    const measuring = this.trial.socket === undefined ? (this.#mtuSearch?.deadline ?? this.#mtuAt) : Infinity;
    return Math.min(this.heartbeatAt, this.lostAt(wokenAt), this.upgradeAt, measuring);
  }

  /** The size of the IP packet to probe with now, if any. A birthday socket cannot send what nobody may cut. */
  measure(now: Millis): number | undefined {
    if (this.trial.socket !== undefined) return undefined;
    if (now >= this.#mtuAt) {
      this.#mtuAt = now + MTU_AGAIN_MS;
      this.#mtuSearch = new MtuSearch(familyOf(this.trial.endpoint.address), this.way.roundTripMs, now);
    }
    const size = this.#mtuSearch?.tick(now);
    this.mtu = this.#mtuSearch?.found ?? this.mtu;
    return size;
  }

  /** A packet of this size came through. */
  passed(size: number, now: Millis): void {
    this.#mtuSearch?.passed(size, now);
    this.mtu = this.#mtuSearch?.found ?? this.mtu;
  }

  get #provenAt(): Millis {
    return Math.max(this.trial.pong?.at ?? this.since, this.#carriedAt);
  }
}
