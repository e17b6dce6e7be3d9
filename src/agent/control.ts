import * as z from "zod";
import type { KeyPair } from "../kit/crypto.js";
import { asFailure } from "../kit/failure.js";
import type { Key } from "../kit/key.js";
import { SECOND } from "../kit/time.js";
import type { Clock } from "../sys/clock.js";
import type { Log } from "../sys/log.js";
import type { Random } from "../sys/random.js";
import type { Dial } from "../sys/websocket.js";
import {
  CONTROL_PATH,
  CONTROL_VERSION,
  type DeviceReport,
  MESSAGE_BYTES_MAX,
  type Refusal,
  type ToCoordinator,
  type ToDevice,
} from "../wire/control.js";
import type { MapPeer, NetworkMap } from "../wire/map.js";
import { Atlas } from "./atlas.js";
import { type ControlSession, openSession } from "./controlsession.js";

export type ControlParts = {
  readonly dial: Dial;
  readonly clock: Clock;
  readonly random: Random;
  readonly log?: Log; // silent without it
};

/** What a device says first, without what the client itself knows. */
export type Hello = Omit<Extract<ToCoordinator, { type: "hello" }>, "type" | "version" | "speaks" | "haveSeq">;

export type ControlWant = {
  /** Tried in turn; https://host[:port]. */
  readonly urls: readonly string[];
  readonly coordinatorKey: Key;
  readonly machineKey: KeyPair;
  /** Where the map is kept, and what the coordinator is told of it; left out, it begins empty. */
  readonly atlas?: Atlas;
  /** Asked at every connection: the join secret may be gone, the name or the report another. */
  hello(): Hello;
};

export type ControlState =
  | { readonly connected: true; readonly url: string }
  /** `reason` says in words why not. */
  | { readonly connected: false; readonly reason: string };

export type ControlEvents = {
  /** The network map, on every change; `gone` is who was in it before. Fulfilled when it is in force here. */
  onMap(map: NetworkMap, gone: readonly MapPeer[]): void | Promise<void>;
  /** The map is proven to be the coordinator's: now it is worth keeping. */
  onSealed?(): void;
  /** The device is in: a join secret is used up now. */
  onWelcome?(welcome: Omit<Extract<ToDevice, { type: "welcome" }>, "type">): void;
  /** To the network's relays, base64. */
  onAdmission?(admission: string): void;
  /** A sealed probe of a peer's, base64. Who sent it is what the probe proves. */
  onCall?(probe: string): void;
  /** A final refusal is not retried: run() returns after it. */
  onRefused(refusal: { readonly code: Refusal; readonly message: string; readonly final: boolean }): void;
  onState(state: ControlState): void;
};

export const CONTROL_LIMITS = Object.freeze({
  backoffMinMs: 0.5 * SECOND,
  backoffMaxMs: 15 * SECOND,
  dialTimeoutMs: 10 * SECOND,
  /** From there to the open socket: a coordinator to which everybody returns at once has them wait in line. */
  handshakeTimeoutMs: 30 * SECOND,
  /** From hello to welcome or refused. */
  welcomeTimeoutMs: 10 * SECOND,
});

/** What another try, with nothing else changed, cannot mend. */
const FINAL: ReadonlySet<Refusal> = new Set<Refusal>([
  "join-key-required",
  "join-key-unknown",
  "join-key-expired",
  "join-key-used",
  "name-taken",
  "key-taken",
  "device-revoked",
]);

type MapMessage = Extract<ToDevice, { type: "map" | "delta" | "seal" }>;
const mapMessage = z.object({ map: z.unknown(), delta: z.unknown() }).partial();

/** Keeps one connection to the coordinator for as long as run() runs. */
export class ControlClient {
  readonly #parts: ControlParts;
  readonly #want: ControlWant;
  readonly #events: ControlEvents;
  readonly #atlas: Atlas;
  /** The one a whole map was asked for already. */
  #resyncing: ControlSession | undefined;
  #sealKey: Key | undefined;
  #session: ControlSession | undefined;
  #report: DeviceReport | undefined;
  #hurry = new AbortController();
  #isOver = false;

  constructor(parts: ControlParts, want: ControlWant, events: ControlEvents) {
    this.#parts = parts;
    this.#want = want;
    this.#events = events;
    this.#atlas = want.atlas ?? new Atlas();
  }

  /** Connects, and again whenever the connection ends, until `signal` aborts or the refusal is final. */
  async run(signal: AbortSignal): Promise<"stopped" | "refused"> {
    const { clock } = this.#parts;
    let round = 0;
    let first = 0;
    while (!signal.aborted) {
      for (let i = 0; i < this.#want.urls.length && !signal.aborted; i++) {
        const at = (first + i) % this.#want.urls.length;
        const ended = await this.#connect(this.#want.urls[at] ?? "", signal);
        if (ended === "refused" || this.#isOver) return "refused";
        if (ended === "lost") {
          // The URL that worked is tried first, and the waiting starts over.
          first = at;
          round = 0;
          break;
        }
      }
      if (signal.aborted) break;
      this.#hurry = new AbortController();
      const pause = backoffMs(round++, this.#parts.random);
      await clock.sleep(pause, AbortSignal.any([signal, this.#hurry.signal])).catch(() => undefined);
      if (this.#hurry.signal.aborted) round = 0;
    }
    return "stopped";
  }

  /** Replaces what the device tells about itself; sent now, or with the next hello. */
  report(report: DeviceReport): void {
    this.#report = report;
    this.#session?.send({ type: "report", report });
  }

  /** Hands a sealed probe on to a peer; lost while there is no connection. */
  call(to: Key, probe: string): void {
    this.#session?.send({ type: "call", to, probe });
  }

  /** This machine is elsewhere: a connection of its old address is dead, and would take seconds to prove it. */
  moved(): void {
    this.#anew("this machine has moved to another network");
  }

  /** What a hello says of this device is another thing now. */
  greetAgain(): void {
    this.#anew("this device has another key to offer");
  }

  /** This device wants nothing of this coordinator. */
  quit(reason: string): void {
    this.#isOver = true;
    this.#session?.end(reason);
  }

  /** The network changed: proves the connection, or ends the waiting for the next try. */
  hurry(): void {
    this.#session?.probe();
    this.#hurry.abort();
  }

  #anew(reason: string): void {
    this.#session?.end(reason);
    this.#hurry.abort();
  }

  async #connect(url: string, signal: AbortSignal): Promise<"failed" | "lost" | "refused"> {
    const { dial, clock, random } = this.#parts;
    let session: ControlSession | undefined;
    let stop: (() => void) | undefined;
    try {
      const socket = await dial(controlUrl(url), {
        messageBytesMax: MESSAGE_BYTES_MAX,
        timeoutMs: CONTROL_LIMITS.dialTimeoutMs,
        handshakeTimeoutMs: CONTROL_LIMITS.handshakeTimeoutMs,
        signal,
      });
      if (signal.aborted) {
        socket.terminate();
        return "failed";
      }
      let receive: (message: ToDevice, raw: unknown) => void = () => undefined;
      const { machineKey, coordinatorKey } = this.#want;
      const opening = openSession({ socket, clock, random }, machineKey, coordinatorKey, (...heard) =>
        receive(...heard),
      );
      const abandon = (): void => socket.terminate();
      signal.addEventListener("abort", abandon, { once: true });
      session = await opening.finally(() => signal.removeEventListener("abort", abandon));
      const open = session;
      stop = () => open.end("stopped");
      signal.addEventListener("abort", stop, { once: true });
      if (signal.aborted) stop();
      const greeting = new AbortController();
      clock.sleep(CONTROL_LIMITS.welcomeTimeoutMs, greeting.signal).then(
        () => open.end("the coordinator did not answer the greeting"),
        () => undefined,
      );
      let outcome: "failed" | "lost" | "refused" = "failed";
      receive = (message, raw) => {
        greeting.abort();
        if (message.type === "welcome") {
          outcome = "lost";
          this.#session = open;
          this.#events.onState({ connected: true, url });
          this.#sealKey = message.sealKey;
          this.#events.onWelcome?.(message);
          // What was reported while the greeting was on its way.
          if (this.#report !== undefined && this.#report !== said) this.report(this.#report);
        } else if (message.type === "map" || message.type === "delta" || message.type === "seal")
          this.#takeMap(open, message, raw);
        else if (message.type === "admission") this.#events.onAdmission?.(message.admission);
        else if (message.type === "call") this.#events.onCall?.(message.probe);
        else if (message.type === "refused") {
          const { code, message: words } = message;
          const final = FINAL.has(code);
          if (final) outcome = "refused";
          this.#events.onRefused({ code, message: words, final });
          open.end(words);
        }
      };
      const hello = this.#want.hello();
      const said = this.#report ?? hello.report;
      const { seq } = this.#atlas;
      const have = { speaks: ["delta", "rotate"], ...(seq === undefined ? {} : { haveSeq: seq }) };
      open.send({ ...hello, ...have, type: "hello", version: CONTROL_VERSION, report: said });
      const reason = await open.ended;
      greeting.abort();
      this.#session = undefined;
      this.#say(url, reason, signal);
      return outcome;
    } catch (error) {
      this.#say(url, asFailure(error).message, signal);
      return "failed";
    } finally {
      if (stop !== undefined) signal.removeEventListener("abort", stop);
    }
  }

  #takeMap(session: ControlSession, message: MapMessage, raw: unknown): void {
    const value = mapMessage.parse(raw);
    if (message.type === "seal") {
      if (this.#sealKey === undefined || message.seal.seq !== this.#atlas.seq) return;
      if (this.#atlas.sealed(message.seal, this.#sealKey)) this.#events.onSealed?.();
      else this.#resync(session, "the coordinator's seal does not fit the map that came");
      return;
    }
    const turn =
      message.type === "map"
        ? this.#atlas.whole(message.map, value.map)
        : this.#atlas.delta(message.delta, value.delta);
    if (turn === undefined) {
      this.#resync(session, "a change does not follow on the map that is here");
      return;
    }
    if (message.type === "map") this.#resyncing = undefined;
    const { seq } = turn.map;
    const done = Promise.resolve(this.#events.onMap(turn.map, turn.gone));
    done.then(
      () => message.confirm === true && session.send({ type: "applied", seq }),
      (error: unknown) => this.#parts.log?.error("the map is not in force", { reason: asFailure(error).message }),
    );
  }

  /** Asks for a whole map, once until it comes. */
  #resync(session: ControlSession, reason: string): void {
    if (this.#resyncing === session) return;
    this.#resyncing = session;
    this.#parts.log?.warn("asking for the whole map", { reason });
    session.send({ type: "resync" });
  }

  #say(url: string, reason: string, signal: AbortSignal): void {
    if (signal.aborted) return;
    this.#parts.log?.warn("not connected to the coordinator", { url, reason });
    this.#events.onState({ connected: false, reason });
  }
}

/** Doubles from backoffMinMs to backoffMaxMs; the second half of it is chance, so that devices do not return as one. */
export function backoffMs(round: number, random: Random): number {
  const { backoffMinMs, backoffMaxMs } = CONTROL_LIMITS;
  const whole = Math.min(backoffMaxMs, backoffMinMs * 2 ** Math.min(round, 16));
  const [high = 0, low = 0] = random(2);
  return Math.round(whole * (0.5 + (high * 256 + low) / 65_536 / 2));
}

/** https://host:8443 → wss://host:8443/control */
function controlUrl(url: string): string {
  const address = new URL(CONTROL_PATH, url);
  address.protocol = "wss:";
  return address.href;
}
