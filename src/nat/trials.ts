import { toHex } from "../kit/bytes.js";
import { type Endpoint, formatEndpoint } from "../kit/endpoint.js";
import { type Millis, SECOND } from "../kit/time.js";
import { ENDPOINTS_MAX } from "../wire/map.js";

/** The endpoints that a peer is tried at, and the pings under way to them. Both tables are bounded. */
export type Trial = {
  readonly endpoint: Endpoint;
  /** The birthday socket that reaches it; undefined is WireGuard's own port. */
  readonly socket: number | undefined;
  pingedAt: Millis;
  /** The last answer, and how long it took. */
  pong: { readonly at: Millis; readonly roundTripMs: Millis } | undefined;
};

/** Sources of authentic pings that nobody had announced: NATs make them, and two or three per peer is usual. */
export const HEARD_MAX = 8;

export class Trials {
  /** By what told of them: the peer's own word through the relay, the network map, a ping that came in. */
  #called: readonly Trial[] = [];
  #mapped: readonly Trial[] = [];
  #heard: Trial[] = [];

  get all(): Trial[] {
    const seen = new Map([...this.#heard, ...this.#called, ...this.#mapped].map((trial) => [nameOf(trial), trial]));
    return [...seen.values()];
  }

  setCalled(endpoints: readonly Endpoint[]): void {
    this.#called = endpoints.slice(0, ENDPOINTS_MAX).map((endpoint) => this.#find(endpoint, undefined));
  }

  setMapped(endpoints: readonly Endpoint[]): void {
    this.#mapped = endpoints.slice(0, ENDPOINTS_MAX).map((endpoint) => this.#find(endpoint, undefined));
  }

  /** The trial for a source that spoke to us. The one heard longest ago makes room, a proven one last. */
  hear(endpoint: Endpoint, socket: number | undefined): Trial {
    const trial = this.#find(endpoint, socket);
    if (this.all.includes(trial)) return trial;
    if (this.#heard.length === HEARD_MAX) {
      const victim = this.#heard.find(({ pong }) => pong === undefined) ?? this.#heard[0];
      this.#heard = this.#heard.filter((one) => one !== victim);
    }
    this.#heard.push(trial);
    return trial;
  }

  /** The birthday sockets that the peer has reached: it may have settled on any of them. */
  get sockets(): number[] {
    return this.#heard.flatMap(({ socket }) => (socket === undefined ? [] : [socket]));
  }

  /** Sockets that are closed reach nobody. */
  keepSockets(sockets: readonly number[]): void {
    this.#heard = this.#heard.filter(({ socket }) => socket === undefined || sockets.includes(socket));
  }

  /** After a change of network nothing is proven, and what was heard came to an address that is gone. */
  reset(): void {
    this.#heard = [];
    for (const trial of this.all) {
      trial.pingedAt = -Infinity;
      trial.pong = undefined;
    }
  }

  #find(endpoint: Endpoint, socket: number | undefined): Trial {
    const fresh: Trial = { endpoint, socket, pingedAt: -Infinity, pong: undefined };
    return this.all.find((trial) => nameOf(trial) === nameOf(fresh)) ?? fresh;
  }
}

type Way = Pick<Trial, "endpoint" | "socket">;

export const sameWay = (left: Way, right: Way): boolean => nameOf(left) === nameOf(right);

const nameOf = ({ endpoint, socket }: Way): string => `${socket ?? "own"} ${formatEndpoint(endpoint)}`;

export type SentPing = {
  readonly to: Endpoint;
  readonly socket: number | undefined;
  readonly sentAt: Millis;
  /** The IP packet's size when it measures the path's MTU, else 0. */
  readonly measures: number;
};

/** A pong that comes later proves nothing about now. */
const PING_TIMEOUT_MS: Millis = 5 * SECOND;
/** Guessing ports has 500 under way. The oldest is forgotten. */
export const PINGS_MAX = 1_024;

export class Pings {
  readonly #sent = new Map<string, SentPing>();

  get size(): number {
    return this.#sent.size;
  }

  add(transaction: Uint8Array, ping: SentPing): void {
    for (const [id, { sentAt }] of this.#sent) {
      if (this.#sent.size < PINGS_MAX && ping.sentAt - sentAt < PING_TIMEOUT_MS) break;
      this.#sent.delete(id);
    }
    this.#sent.set(toHex(transaction), ping);
  }

  /** The ping that this answers, once; undefined for a stray: too late, made up, or from elsewhere. */
  take(transaction: Uint8Array, from: Endpoint, socket: number | undefined, now: Millis): SentPing | undefined {
    const id = toHex(transaction);
    const ping = this.#sent.get(id);
    if (ping === undefined || now - ping.sentAt > PING_TIMEOUT_MS) return undefined;
    // WireGuard takes the source of what it receives for the peer's endpoint, so a way must be the same both ways.
    if (!sameWay({ endpoint: ping.to, socket: ping.socket }, { endpoint: from, socket })) return undefined;
    this.#sent.delete(id);
    return ping;
  }

  clear(): void {
    this.#sent.clear();
  }
}
