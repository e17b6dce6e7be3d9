import { toHex } from "../kit/bytes.js";
import { PROBE_MAGIC } from "../kit/datagramkind.js";
import { type Endpoint, formatEndpoint } from "../kit/endpoint.js";
import { asFailure } from "../kit/failure.js";
import type { Ip } from "../kit/ip.js";
import { type Millis, SECOND } from "../kit/time.js";
import { natPmpService, pcpService } from "../nat/portmap/lease.js";
import { type PortMapEffect, PortMapper, type PortMapStatus } from "../nat/portmap/portmapper.js";
import type { HttpAnswer, HttpRequest, ServiceName } from "../nat/portmap/service.js";
import { UpnpService } from "../nat/portmap/upnp.js";
import type { Clock } from "../sys/clock.js";
import type { DatagramSocket } from "../sys/dgram.js";
import type { Log } from "../sys/log.js";
import type { Random } from "../sys/random.js";
import { DIAL_BACK_TOKEN_BYTES, DIAL_BACK_TYPE } from "../wire/relay.js";
import { Alarm } from "./alarm.js";
import type { Gateway } from "./gateway.js";

export type PortMappingParts = {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  openSocket(port: number, address?: Ip): Promise<DatagramSocket>;
  /** From this machine's address to the router; undefined when nothing came in time, or too much. */
  fetchHttp(request: HttpRequest, from: Ip): Promise<HttpAnswer | undefined>;
};

export type PortMappingEvents = {
  /** Has a relay send the token to the endpoint; false when none can just now. */
  dialBack(endpoint: Endpoint, token: Uint8Array): boolean;
  /** A mapping was proven, or is gone. */
  onMapped(endpoint: Endpoint | undefined): void;
};

/** A relay that connects a moment later can still try the mapping, and a lost datagram is one of several. */
const DIAL_BACK_EVERY_MS: Millis = SECOND;

/** For the last word to the router to leave: a closed socket takes along what it was given. */
const GOODBYE_MS: Millis = 200;

type Running = {
  readonly mapper: PortMapper;
  readonly gateway: Gateway;
  readonly sockets: ReadonlyMap<ServiceName, DatagramSocket>;
};

/** Keeps a port of the home router mapped to WireGuard's, where the router does such things; believed when proven. */
export class PortMapping {
  readonly #parts: PortMappingParts;
  readonly #events: PortMappingEvents;
  readonly #alarm: Alarm;
  #running: Running | undefined;
  #mapped: Endpoint | undefined;
  #trial: { readonly endpoint: Endpoint; readonly token: Uint8Array; againAt: Millis } | undefined;
  /** Which services have answered in this network. */
  readonly #seen = new Set<ServiceName>();

  constructor(parts: PortMappingParts, events: PortMappingEvents) {
    this.#parts = parts;
    this.#events = events;
    this.#alarm = new Alarm(parts.clock, () => this.#tick());
  }

  get mapped(): Endpoint | undefined {
    return this.#mapped;
  }

  get status(): PortMapStatus | undefined {
    return this.#running?.mapper.status;
  }

  get seen(): readonly ServiceName[] {
    return [...this.#seen];
  }

  /** Begins at this router, unless it has begun there already. */
  async start(gateway: Gateway, port: number): Promise<void> {
    const before = this.#running?.gateway;
    if (before?.address === gateway.address && before.client === gateway.client) return;
    this.abandon();
    const { clock, random, openSocket, log } = this.#parts;
    const { address, client } = gateway;
    const sockets = new Map<ServiceName, DatagramSocket>();
    const mapper = new PortMapper([
      pcpService(address, client, port, random),
      natPmpService(address, port),
      new UpnpService(address, client, port, random),
    ]);
    const running: Running = { mapper, gateway, sockets };
    this.#running = running;
    try {
      for (const name of ["pcp", "natpmp", "upnp"] as const) {
        const socket = await openSocket(0, client);
        if (this.#running !== running) return socket.close();
        sockets.set(name, socket);
        socket.onReceive = (datagram, from) => {
          // Whoever else is on the network may not speak for the router; SSDP answers come from any port of its.
          if (from.address !== address) return;
          this.#seen.add(name);
          this.#do(running, mapper.receive(name, new Uint8Array(datagram), from, clock.now()));
        };
      }
    } catch (error) {
      log.warn("no port mapping", { message: asFailure(error).message });
      this.abandon();
      return;
    }
    this.#do(running, mapper.start(clock.now()));
  }

  /** A datagram on WireGuard's port that begins as probes do: true when it was a relay's dial-back. */
  receive(datagram: Uint8Array): boolean {
    const token = dialBackToken(datagram);
    if (token === undefined) return false;
    const [running, trial] = [this.#running, this.#trial];
    if (running !== undefined && trial !== undefined && toHex(trial.token) === toHex(token)) {
      this.#trial = undefined;
      this.#do(running, running.mapper.verified(trial.endpoint, true, this.#parts.clock.now()));
    }
    return true;
  }

  /** Gives the mapping back, if there is one. */
  async stop(): Promise<void> {
    const running = this.#running;
    if (running !== undefined && running.mapper.status.kind !== "none" && running.mapper.status.kind !== "looking") {
      this.#do(running, running.mapper.stop(this.#parts.clock.now()));
      await this.#parts.clock.sleep(GOODBYE_MS);
    }
    this.abandon();
  }

  /** Another network: the router that was asked cannot be reached any more. */
  abandon(): void {
    const running = this.#running;
    this.#running = undefined;
    this.#trial = undefined;
    this.#seen.clear();
    this.#alarm.stop();
    for (const socket of running?.sockets.values() ?? []) socket.close();
    this.#tell(undefined);
  }

  #tick(): void {
    const running = this.#running;
    if (running === undefined) return;
    const now = this.#parts.clock.now();
    this.#try(now);
    this.#do(running, running.mapper.tick(now));
  }

  #do(running: Running, effects: readonly PortMapEffect[]): void {
    if (this.#running !== running) return;
    const { clock, fetchHttp } = this.#parts;
    for (const effect of effects)
      switch (effect.kind) {
        case "datagram":
          running.sockets.get(effect.service)?.send(effect.to, effect.datagram);
          break;
        case "http":
          void fetchHttp(effect.request, running.gateway.client).then((answer) =>
            this.#do(running, running.mapper.answered(effect.service, effect.id, answer, clock.now())),
          );
          break;
        case "verify":
          this.#trial = {
            endpoint: effect.endpoint,
            token: this.#parts.random(DIAL_BACK_TOKEN_BYTES),
            againAt: clock.now(),
          };
          this.#try(clock.now());
          break;
        case "mapped":
          this.#tell(effect.endpoint);
      }
    if (running.mapper.status.kind !== "verifying") this.#trial = undefined;
    this.#alarm.by(running.mapper.deadline);
  }

  #try(now: Millis): void {
    const trial = this.#trial;
    if (trial === undefined) return;
    if (now >= trial.againAt) {
      this.#events.dialBack(trial.endpoint, trial.token);
      trial.againAt = now + DIAL_BACK_EVERY_MS;
    }
    this.#alarm.by(trial.againAt);
  }

  #tell(endpoint: Endpoint | undefined): void {
    const text = (one: Endpoint | undefined): string => (one === undefined ? "" : formatEndpoint(one));
    if (text(endpoint) === text(this.#mapped)) return;
    this.#mapped = endpoint;
    this.#events.onMapped(endpoint);
  }
}

/** What a relay's dial-back carries ("EXND", DIAL_BACK_TYPE, token: wire/relay.ts); undefined for another datagram. */
export function dialBackToken(datagram: Uint8Array): Uint8Array | undefined {
  if (datagram.length !== 5 + DIAL_BACK_TOKEN_BYTES || datagram[4] !== DIAL_BACK_TYPE) return undefined;
  if (new DataView(datagram.buffer, datagram.byteOffset).getUint32(0) !== PROBE_MAGIC) return undefined;
  return datagram.subarray(5);
}
