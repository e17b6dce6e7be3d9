import type { KeyPair } from "../kit/crypto.js";
import { asFailure } from "../kit/failure.js";
import { type Key, keyBytes } from "../kit/key.js";
import { MINUTE, type Millis, SECOND } from "../kit/time.js";
import type { Clock } from "../sys/clock.js";
import type { Log } from "../sys/log.js";
import type { Random } from "../sys/random.js";
import type { DialStream } from "../sys/streamdial.js";
import {
  BINDING_HEADER,
  type DialBack,
  RELAY_PATH,
  RELAY_PROTOCOL,
  RELAY_REFUSALS,
  type RelayRefusal,
} from "../wire/relay.js";
import { openRelaySession, type RelayEnd, type RelaySession, type RelaySessionEvents } from "./clientsession.js";

export type RelayClientParts = {
  readonly dial: DialStream;
  readonly clock: Clock;
  readonly random: Random;
  readonly log?: Log;
};

export type RelayClientWant = {
  /** https://host:port; RELAY_PATH is added. */
  readonly url: string;
  /** The relay's Noise key, from the network map. */
  readonly relayKey: Key;
  readonly machineKey: KeyPair;
  /** The newest admission; undefined while the coordinator has given none, and then nothing is dialed. */
  readonly admission: () => Uint8Array | undefined;
  /** Kept while idle: the home relay, where the others look for us. */
  readonly home: boolean;
};

export type RelayState =
  | { readonly kind: "connected"; readonly address: string }
  | { readonly kind: "idle" }
  | { readonly kind: "waiting"; readonly reason: string; readonly refusal?: RelayRefusal };

export type RelayClientEvents = RelaySessionEvents & { onState(state: RelayState): void };

/** A connection that is not to the home relay is closed when it carried nothing for so long. */
export const IDLE_CLOSE_MS: Millis = MINUTE;
export const DIAL_TIMEOUT_MS: Millis = 10 * SECOND;
export const RELAY_BACKOFF_MIN_MS: Millis = 250;
export const RELAY_BACKOFF_MAX_MS: Millis = 30 * SECOND;
/** While no connection is there, the last datagrams are kept: a handshake must not wait for WireGuard's next try. */
const WAITING_DATAGRAMS_MAX = 16;
const WAITING_AGE_MAX_MS: Millis = 5 * SECOND;

type Waiting = { readonly to: Uint8Array; readonly datagram: Uint8Array; readonly probe: boolean; readonly at: Millis };

/** A device's way to one relay: connects when needed, again when it is lost, and says what comes in. */
export class RelayClient {
  readonly #parts: RelayClientParts;
  readonly #events: RelayClientEvents;
  #want: RelayClientWant;
  #session: RelaySession | undefined;
  #waiting: Waiting[] = [];
  #usedAt: Millis;
  /** Ends the pause before the next attempt, or the rest while idle. */
  #wake = new AbortController();

  constructor(parts: RelayClientParts, want: RelayClientWant, events: RelayClientEvents) {
    this.#parts = parts;
    this.#want = want;
    this.#events = events;
    this.#usedAt = parts.clock.now();
  }

  get connected(): boolean {
    return this.#session !== undefined;
  }

  /** Sends a WireGuard datagram to the holder of a key; connects first if need be. Lost, as datagrams may be. */
  send(to: Key, datagram: Uint8Array): void {
    this.#give(keyBytes(to), datagram, false);
  }

  /** The same for a probe, which no queue of data delays. */
  probe(to: Key, datagram: Uint8Array): void {
    this.#give(keyBytes(to), datagram, true);
  }

  /** Another relay has become home, or this one has. */
  setHome(home: boolean): void {
    this.#want = { ...this.#want, home };
    if (home) this.#wake.abort();
  }

  /** A new admission has come from the coordinator. */
  admitted(): void {
    const admission = this.#want.admission();
    if (admission !== undefined) this.#session?.renew(admission);
    this.#wake.abort();
  }

  /** Asks the relay to try a port mapping; false while there is no connection. */
  dialBack(asked: DialBack): boolean {
    this.#session?.dialBack(asked);
    return this.#session !== undefined;
  }

  /** Whether the relay is there: looks tell. */
  ask(): void {
    this.#session?.ping();
  }

  /** It may be needed soon: connects, and stays for IDLE_CLOSE_MS. */
  prepare(): void {
    this.#usedAt = this.#parts.clock.now();
    if (this.#resting === "idle") this.#wake.abort();
  }

  /** True while the relay is needed and is not there, or does not answer. The caller calls once a second. */
  look(): boolean {
    return this.#needed() && (this.#session?.look() ?? true);
  }

  /** The network changed: measures the connection, or ends the waiting for the next one. */
  hurry(): void {
    this.#session?.ping();
    this.#wake.abort();
  }

  /** Serves until `signal` aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock } = this.#parts;
    let round = 0;
    while (!signal.aborted) {
      if (!this.#needed()) {
        this.#events.onState({ kind: "idle" });
        await this.#rest(undefined, signal);
        continue;
      }
      const began = clock.now();
      const end = await this.#connect(signal);
      if (signal.aborted) return;
      // A connection that held starts the waiting over.
      if (end.held && clock.now() - began > RELAY_BACKOFF_MAX_MS) round = 0;
      if (end.reason === IDLE) continue;
      const { refusal } = end;
      this.#parts.log?.warn("not connected to a relay", { url: this.#want.url, reason: end.reason });
      this.#events.onState({ kind: "waiting", reason: end.reason, ...(refusal === undefined ? {} : { refusal }) });
      await this.#rest(this.#pauseAfter(end, round++), signal);
    }
  }

  #give(to: Uint8Array, datagram: Uint8Array, probe: boolean): void {
    const now = this.#parts.clock.now();
    this.#usedAt = now;
    const session = this.#session;
    if (session !== undefined) {
      if (probe) session.probe(to, datagram);
      else session.send(to, datagram);
      return;
    }
    this.#waiting.push({ to, datagram: new Uint8Array(datagram), probe, at: now });
    if (this.#waiting.length > WAITING_DATAGRAMS_MAX) this.#waiting.shift();
    // While a pause after a failure is under way it stays: a flood of datagrams must not become a flood of dials.
    if (this.#resting === "idle") this.#wake.abort();
  }

  #resting: "no" | "idle" | "backing off" = "no";

  #needed(): boolean {
    const { home, admission } = this.#want;
    return admission() !== undefined && (home || this.#parts.clock.now() - this.#usedAt < IDLE_CLOSE_MS);
  }

  async #rest(pause: Millis | undefined, signal: AbortSignal): Promise<void> {
    this.#wake = new AbortController();
    this.#resting = pause === undefined ? "idle" : "backing off";
    const until = AbortSignal.any([signal, this.#wake.signal]);
    await this.#parts.clock.sleep(pause ?? MINUTE, until).catch(() => undefined);
    this.#resting = "no";
  }

  async #connect(signal: AbortSignal): Promise<RelayEnd & { held: boolean }> {
    const { dial, clock, random } = this.#parts;
    const { url, relayKey, machineKey, admission } = this.#want;
    try {
      const given = admission();
      if (given === undefined) return { reason: "not admitted yet", held: false };
      const stream = await dial(new URL(RELAY_PATH, url).href, {
        protocol: RELAY_PROTOCOL,
        bindingHeader: BINDING_HEADER,
        timeoutMs: DIAL_TIMEOUT_MS,
        signal,
      });
      const abandon = (): void => stream.terminate();
      signal.addEventListener("abort", abandon, { once: true });
      try {
        const want = { machineKey, relayKey, admission: given };
        const session = await openRelaySession({ stream, clock, random }, want, this.#events);
        this.#session = session;
        this.#events.onState({ kind: "connected", address: session.welcome.address });
        for (const { to, datagram, probe, at } of this.#waiting.splice(0))
          if (clock.now() - at < WAITING_AGE_MAX_MS) (probe ? session.probe : session.send)(to, datagram);
        void this.#endWhenIdle(session);
        return { ...(await session.ended), held: true };
      } finally {
        this.#session = undefined;
        signal.removeEventListener("abort", abandon);
      }
    } catch (error) {
      const { code, message } = asFailure(error);
      const refusal = RELAY_REFUSALS.find((one) => one === code);
      return { reason: message, held: false, ...(refusal === undefined ? {} : { refusal }) };
    }
  }

  async #endWhenIdle(session: RelaySession): Promise<void> {
    const { clock } = this.#parts;
    const over = new AbortController();
    void session.ended.then(() => over.abort());
    while (!over.signal.aborted) {
      await clock.sleep(IDLE_CLOSE_MS / 4, over.signal).catch(() => undefined);
      if (!this.#needed()) session.end(IDLE);
    }
  }

  /** Doubles up to its bound, half of it chance; a relay that announced its restart says itself how long. */
  #pauseAfter({ restarting }: RelayEnd, round: number): Millis {
    const [high = 0, low = 0] = this.#parts.random(2);
    const chance = (high * 256 + low) / 65_536;
    if (restarting !== undefined) {
      const most = RELAY_BACKOFF_MAX_MS;
      return Math.min(most, restarting.waitMs) + Math.min(most, restarting.spreadMs) * chance;
    }
    const whole = Math.min(RELAY_BACKOFF_MAX_MS, RELAY_BACKOFF_MIN_MS * 2 ** Math.min(round, 16));
    return whole * (0.5 + chance / 2);
  }
}

const IDLE = "idle";
