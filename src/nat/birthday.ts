import type { Endpoint } from "../kit/endpoint.js";
import type { Ip } from "../kit/ip.js";
import type { Millis } from "../kit/time.js";

/**
 * Guessing a port, when exactly one side's NAT gives every destination another one. The hard side opens BIRTHDAY_SOCKETS
 * sockets and sends from each to the easy side's one known endpoint: so many of its NAT's ports now let the easy side
 * in. The easy side sends to ports of the hard side's address at random. With 256 of 64512 ports open, a guess meets one
 * with probability 1/252: after 1024 guesses 98 of 100 attempts have, after 1700 all but one in a thousand.
 */

export const BIRTHDAY_SOCKETS = 256;
const GUESSES_PER_SECOND = 100;
const BIRTHDAY_MS: Millis = 20_000;
/** After an attempt that found nothing. The NATs would not change meanwhile, and 2000 datagrams are not for nothing. */
export const BIRTHDAY_PAUSE_MS: Millis = 5 * 60_000;
const STEP_MS: Millis = 100;
const GUESSES_PER_STEP = (GUESSES_PER_SECOND * STEP_MS) / 1_000;
/** Not all at once: some home routers drop bursts of new flows. */
const SOCKETS_PER_STEP = 32;
/** The hard side's mappings are refreshed: 30 s is the shortest timeout seen (RFC 4787 §4.3), and datagrams get lost. */
const REFRESH_MS: Millis = 7_000;
/** NATs map to unprivileged ports (RFC 4787 REQ-3 keeps the ranges apart). */
const PORT_MIN = 1_024;
const DRAWS_MAX = 16;

export type BirthdaySend = { readonly socket: number | undefined; readonly to: Endpoint };

export interface Birthday {
  readonly side: "hard" | "easy";
  readonly endsAt: Millis;
  /** When tick() is next due. */
  readonly deadline: Millis;
  /** Where to send a ping now, and from which socket (undefined: WireGuard's own). */
  tick(now: Millis): BirthdaySend[];
}

/** `firstSocket`: the sockets are numbered from here; `target`: the easy side's endpoint. */
export class HardSide implements Birthday {
  readonly side = "hard";
  readonly endsAt: Millis;
  deadline: Millis;
  readonly #target: Endpoint;
  readonly #firstSocket: number;
  #next = 0;
  #roundAt: Millis;

  constructor(target: Endpoint, firstSocket: number, now: Millis) {
    this.endsAt = now + BIRTHDAY_MS;
    this.deadline = now;
    this.#target = target;
    this.#firstSocket = firstSocket;
    this.#roundAt = now;
  }

  tick(now: Millis): BirthdaySend[] {
    if (now < this.deadline) return [];
    const count = Math.min(SOCKETS_PER_STEP, BIRTHDAY_SOCKETS - this.#next);
    const sends = Array.from({ length: count }, (_, i) => ({
      socket: this.#firstSocket + this.#next + i,
      to: this.#target,
    }));
    this.#next += count;
    if (this.#next < BIRTHDAY_SOCKETS) this.deadline = now + STEP_MS;
    else {
      this.#next = 0;
      this.#roundAt += REFRESH_MS;
      this.deadline = this.#roundAt;
    }
    return sends;
  }
}

/** `addresses`: the hard side's public ones. No port is tried twice on one of them. */
export class EasySide implements Birthday {
  readonly side = "easy";
  readonly endsAt: Millis;
  deadline: Millis;
  readonly #addresses: readonly Ip[];
  readonly #random: (length: number) => Uint8Array;
  readonly #tried = new Set<string>();
  readonly #startedAt: Millis;
  #sent = 0;

  constructor(addresses: readonly Ip[], random: (length: number) => Uint8Array, now: Millis) {
    this.endsAt = now + BIRTHDAY_MS;
    this.deadline = now;
    this.#addresses = addresses;
    this.#random = random;
    this.#startedAt = now;
  }

  tick(now: Millis): BirthdaySend[] {
    if (now < this.deadline) return [];
    this.deadline = now + STEP_MS;
    const sends: BirthdaySend[] = [];
    // On a busy machine timers ring late, and what counts is how many guesses there were: late ones are made up for.
    const due = GUESSES_PER_STEP * Math.floor((now - this.#startedAt) / STEP_MS + 1) - this.#sent;
    const count = Math.min(due, 2 * GUESSES_PER_STEP);
    for (let i = 0; i < count; i++) {
      const address = this.#addresses[this.#sent++ % this.#addresses.length];
      if (address !== undefined) sends.push({ socket: undefined, to: { address, port: this.#draw(address) } });
    }
    return sends;
  }

  #draw(address: Ip): number {
    // At most 2000 of 64512 are taken: two draws do, nearly always.
    let port = 0;
    for (let draw = 0; draw < DRAWS_MAX; draw++) {
      const [high = 0, low = 0] = this.#random(2);
      port = Math.max(PORT_MIN, (high << 8) | low);
      if (!this.#tried.has(`${address} ${port}`)) break;
    }
    this.#tried.add(`${address} ${port}`);
    return port;
  }
}
