import { toHex } from "../kit/bytes.js";
import { type Endpoint, formatEndpoint } from "../kit/endpoint.js";
import { MINUTE, type Millis, SECOND } from "../kit/time.js";
import type { Clock } from "../sys/clock.js";
import type { Random } from "../sys/random.js";
import type { NetcheckAnswer } from "../wire/agentsocket.js";
import { DIAL_BACK_TOKEN_BYTES } from "../wire/relay.js";
import { Alarm } from "./alarm.js";
import { dialBackToken } from "./portmapping.js";

/** Where the forwarded port leads, as far as a relay could tell. */
export type Forward = NonNullable<NetcheckAnswer["forward"]>["leads"];

export type ForwardedPortParts = { readonly clock: Clock; readonly random: Random };

export type ForwardedPortEvents = {
  /** Has a relay send the token to the endpoint; false when none can just now. */
  dialBack(endpoint: Endpoint, token: Uint8Array): boolean;
  onChange(): void;
};

/** Datagrams get lost, and a relay sends one device no more than one every two seconds. */
export const TRIES_MAX = 3;
export const TRY_MS: Millis = 4 * SECOND;
/** Forwards are made, and taken away, while nobody tells us; and a line that was down has proven nothing. */
export const TRY_AGAIN_MS: Readonly<Record<Forward, Millis>> = { untried: 0, here: 10 * MINUTE, elsewhere: 2 * MINUTE };
/** A relay that could reach us may come by then. */
const WAIT_MS: Millis = MINUTE;

/**
 * Finds out whether a forwarded port leads to this very device: of two exit nodes behind one router, both are told that
 * the usual port is forwarded, and it leads to one of them. A relay sends a token there, and the one that it was made
 * for has to see it. As long as no relay can try, the configuration is believed.
 */
export class ForwardedPort {
  readonly #parts: ForwardedPortParts;
  readonly #events: ForwardedPortEvents;
  readonly #alarm: Alarm;
  #endpoint: Endpoint | undefined;
  #leads: Forward = "untried";
  #trial: { readonly token: Uint8Array; tries: number } | undefined;
  #dueAt: Millis = -Infinity;
  #stopped = false;

  constructor(parts: ForwardedPortParts, events: ForwardedPortEvents) {
    this.#parts = parts;
    this.#events = events;
    this.#alarm = new Alarm(parts.clock, () => this.#tick());
  }

  get leads(): Forward {
    return this.#leads;
  }

  get endpoint(): Endpoint | undefined {
    return this.#endpoint;
  }

  /** To be called with every change of what is known of this device, a relay's coming included. */
  follow(endpoint: Endpoint | undefined): void {
    if (textOf(endpoint) !== textOf(this.#endpoint)) {
      [this.#endpoint, this.#leads, this.#trial, this.#dueAt] = [endpoint, "untried", undefined, -Infinity];
      this.#alarm.stop();
    }
    this.#tick();
  }

  /** A datagram on WireGuard's port that begins as probes do: true when it was the one that was waited for. */
  receive(datagram: Uint8Array): boolean {
    const token = dialBackToken(datagram);
    if (token === undefined || this.#trial === undefined || toHex(token) !== toHex(this.#trial.token)) return false;
    this.#settle("here");
    return true;
  }

  stop(): void {
    this.#stopped = true;
    this.#alarm.stop();
  }

  #tick(): void {
    const [endpoint, now] = [this.#endpoint, this.#parts.clock.now()];
    if (endpoint === undefined || this.#stopped) return;
    if (now >= this.#dueAt) this.#try(endpoint, now);
    this.#alarm.by(this.#dueAt > now ? this.#dueAt : now + WAIT_MS);
  }

  #try(endpoint: Endpoint, now: Millis): void {
    this.#trial ??= { token: this.#parts.random(DIAL_BACK_TOKEN_BYTES), tries: 0 };
    if (this.#trial.tries === TRIES_MAX) this.#settle("elsewhere");
    // What was not sent says nothing.
    else if (this.#events.dialBack(endpoint, this.#trial.token)) {
      this.#trial.tries += 1;
      this.#dueAt = now + TRY_MS;
    }
  }

  #settle(leads: Forward): void {
    const changed = leads !== this.#leads;
    this.#trial = undefined;
    this.#leads = leads;
    this.#dueAt = this.#parts.clock.now() + TRY_AGAIN_MS[leads];
    if (changed) this.#events.onChange();
  }
}

const textOf = (endpoint: Endpoint | undefined): string => (endpoint === undefined ? "" : formatEndpoint(endpoint));
