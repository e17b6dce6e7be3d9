import { concat } from "../../src/kit/bytes.js";
import { keyPairOf } from "../../src/kit/crypto.js";
import { datagramKind } from "../../src/kit/datagramkind.js";
import type { Endpoint } from "../../src/kit/endpoint.js";
import type { Cidr } from "../../src/kit/ip.js";
import { type Key, keyOf } from "../../src/kit/key.js";
import type { Millis } from "../../src/kit/time.js";
import { gatherCandidates } from "../../src/nat/candidates.js";
import { natKindOf } from "../../src/nat/natkind.js";
import type { PathEffect, Route } from "../../src/nat/path.js";
import { Pathfinder } from "../../src/nat/pathfinder.js";
import { ProbeGate } from "../../src/nat/probegate.js";
import { decodeStunRequest, encodeStunResponse } from "../../src/nat/stun.js";
import { StunRound } from "../../src/nat/stunclient.js";
import type { StunReport } from "../../src/nat/stunreport.js";
import type { Host, Internet, Network } from "./internet.js";

/** A device in the simulated Internet: the cores of src/nat, driven as the agent drives them. */

export const TUNNELS = ["100.96.0.0/16"] as Cidr[];
export const AGENT_PORT = 51_820;
const BIRTHDAY_PORT = 40_000;

/** Always forwards, over streams that no NAT minds. */
export class LabRelay {
  readonly #internet: Internet;
  readonly #connected = new Map<string, (payload: Uint8Array) => void>();
  readonly delayMs: Millis = 60;

  constructor(internet: Internet) {
    this.#internet = internet;
  }

  connect(id: string, receive: (payload: Uint8Array) => void): void {
    this.#connected.set(id, receive);
  }

  disconnect(id: string): void {
    this.#connected.delete(id);
  }

  send(from: string, to: string, payload: Uint8Array): void {
    if (this.#connected.has(from)) this.#internet.after(this.delayMs, () => this.#connected.get(to)?.(payload));
  }
}

export function stunServer(host: Host, port: number): Endpoint[] {
  host.open(port, (payload, from) => {
    const request = decodeStunRequest(payload);
    if (request !== undefined) host.send(port, from, encodeStunResponse(request, from));
  });
  return host.addresses.map((address) => ({ address, port }));
}

export type Received = { readonly at: Millis; readonly sentAt: Millis; readonly via: "relay" | "direct" };

export class LabAgent {
  readonly id: string;
  readonly host: Host;
  readonly discoveryKey: Key;
  readonly gate: ProbeGate;
  path: Pathfinder;
  readonly received: Received[] = [];
  report: StunReport | undefined;
  peer: LabAgent | undefined;
  /** A moment of each change of route, for whoever asks when. */
  readonly routes: { readonly at: Millis; readonly kind: string }[] = [];
  readonly birthday = { opened: 0, probes: 0 };
  readonly #internet: Internet;
  readonly #relay: LabRelay;
  readonly #servers: readonly Endpoint[];
  readonly #sockets = new Map<number, number>();
  #round: StunRound | undefined;
  #dueAt: Millis = Infinity;
  #talks = false;
  #isAway = false;
  /** As WireGuard shows the peer: heard from so often, last from there (undefined: by the relay). */
  readonly #shown: { count: number; endpoint: Endpoint | undefined } = { count: 0, endpoint: undefined };

  constructor(id: string, host: Host, internet: Internet, relay: LabRelay, servers: readonly Endpoint[]) {
    this.id = id;
    this.host = host;
    this.#internet = internet;
    this.#relay = relay;
    this.#servers = servers;
    const keys = keyPairOf(internet.random(32));
    this.discoveryKey = keyOf(keys.publicKey);
    this.gate = new ProbeGate(keys, internet.random);
    this.path = new Pathfinder(internet.random, TUNNELS, internet.now);
    host.open(AGENT_PORT, (payload, from) => this.#receive(payload, from, undefined));
  }

  start(peer: LabAgent): void {
    this.peer = peer;
    this.gate.setPeers([{ peer: peer.id, discoveryKey: peer.discoveryKey }]);
    this.#join();
    this.#look(0, this.#internet.now);
  }

  /** The agent ends, and nothing is left of what it knew. WireGuard goes on sending where it last heard the peer. */
  leave(): void {
    this.#isAway = true;
    this.#relay.disconnect(this.id);
    this.path = new Pathfinder(this.#internet.random, TUNNELS, this.#internet.now);
    this.#dueAt = Infinity;
    this.#round = undefined;
  }

  comeBack(): void {
    this.#isAway = false;
    this.#join();
  }

  /** Data to the peer ten times a second, like a call; or silence. */
  talk(talks: boolean): void {
    if (talks && !this.#talks) this.#internet.after(0, () => this.#say());
    this.#talks = talks;
  }

  moveTo(network: Network, addresses: Host["addresses"]): void {
    this.host.moveTo(network, addresses);
    this.#relay.disconnect(this.id);
    const now = this.#internet.now;
    this.#do(this.path.setRelay(false, now));
    this.#do(this.path.networkChanged(now));
    this.#join();
  }

  #join(): void {
    // TCP, TLS and a login take some round trips.
    this.#internet.after(200, () => {
      this.#relay.connect(this.id, (payload) => this.#receive(payload, undefined, undefined));
      this.#do(this.path.setRelay(true, this.#internet.now));
    });
    this.stun();
  }

  /** Asks the servers where this device is, and tells the path finder. */
  stun(): void {
    const local = { port: AGENT_PORT, addresses: this.host.addresses };
    const round = new StunRound(this.#servers, local, this.#internet.random, this.#internet.now);
    this.#round = round;
    const step = () => {
      if (round !== this.#round) return;
      for (const { to, datagram } of round.tick(this.#internet.now)) this.host.send(AGENT_PORT, to, datagram);
      if (round.deadline !== undefined) this.#internet.after(Math.max(0, round.deadline - this.#internet.now), step);
      else this.#located(round);
    };
    step();
  }

  #located(round: StunRound): void {
    const { report } = round;
    if (report === undefined || this.#round !== round) return;
    this.#round = undefined;
    this.report = report;
    const sources = { locals: this.host.addresses, port: AGENT_PORT, stun: report, tunnels: TUNNELS };
    const endpoints = gatherCandidates(sources).map(({ endpoint }) => endpoint);
    this.#do(this.path.setHere({ endpoints, nat: natKindOf(report) }, this.#internet.now));
  }

  #say(): void {
    if (!this.#talks || this.peer === undefined) return;
    const { now } = this.#internet;
    const payload = concat(Uint8Array.of(4, 0, 0, 0), new Uint8Array(4), new Uint8Array(Float64Array.of(now).buffer));
    const { endpoint } = this.#shown;
    const isAlone = this.#isAway && endpoint !== undefined;
    const route: Route = isAlone ? { kind: "direct", endpoint, socket: undefined } : this.path.route;
    if (route.kind === "relay" || route.kind === "both") this.#relay.send(this.id, this.peer.id, payload);
    if (route.kind === "direct" || route.kind === "both")
      this.host.send(this.#portOf(route.socket), route.endpoint, payload);
    if (!this.#isAway) this.#do(this.path.traffic(now));
    this.#internet.after(100, () => this.#say());
  }

  /** Once a second, as an agent looks at its WireGuard. */
  #look(before: number, at: Millis): void {
    const { now } = this.#internet;
    const { count, endpoint } = this.#shown;
    if (!this.#isAway && count > before && endpoint !== undefined) this.#do(this.path.carried(endpoint, at, now));
    this.#internet.after(1_000, () => this.#look(count, now));
  }

  #receive(payload: Uint8Array, from: Endpoint | undefined, socket: number | undefined): void {
    const { now } = this.#internet;
    const kind = datagramKind(payload);
    if (this.#isAway && kind !== "wireguard") return;
    switch (kind) {
      case "stun": {
        const round = this.#round;
        if (from !== undefined && round?.receive(payload, from, now) === true) this.#located(round);
        return;
      }
      case "probe": {
        const opened = this.gate.open(payload, now);
        if (opened === undefined) return;
        const arrival = from === undefined ? ({ kind: "relay" } as const) : ({ kind: "direct", from, socket } as const);
        this.#do(this.path.receive(opened.probe, arrival, now));
        return;
      }
      case "wireguard": {
        const sentAt = new DataView(payload.buffer, payload.byteOffset).getFloat64(8, true);
        this.received.push({ at: now, sentAt, via: from === undefined ? "relay" : "direct" });
        if (this.received.slice(-50, -1).some((earlier) => earlier.sentAt === sentAt)) return;
        this.#shown.count += 1;
        this.#shown.endpoint = from;
        if (!this.#isAway) this.#do(this.path.traffic(now));
      }
    }
  }

  #do(effects: readonly PathEffect[]): void {
    for (const effect of effects) this.#doOne(effect);
    const { deadline } = this.path;
    if (deadline === undefined || deadline >= this.#dueAt) return;
    this.#dueAt = deadline;
    this.#internet.after(Math.max(0, deadline - this.#internet.now), () => {
      if (this.#dueAt !== deadline) return;
      this.#dueAt = Infinity;
      this.#do(this.path.tick(this.#internet.now));
    });
  }

  #doOne(effect: PathEffect): void {
    const peer = this.peer?.id ?? "";
    switch (effect.kind) {
      case "probe": {
        const datagram = this.gate.seal(peer, effect.probe);
        if (effect.socket !== undefined) this.birthday.probes += 1;
        if (datagram !== undefined) this.host.send(this.#portOf(effect.socket), effect.to, datagram, effect.whole);
        return;
      }
      case "relay": {
        const datagram = this.gate.seal(peer, effect.probe);
        if (datagram !== undefined) this.#relay.send(this.id, peer, datagram);
        return;
      }
      case "use":
        this.routes.push({ at: this.#internet.now, kind: effect.route.kind });
        this.#shown.endpoint = effect.route.kind === "direct" ? effect.route.endpoint : undefined;
        return;
      case "open-sockets":
        for (let socket = effect.first; socket < effect.first + effect.count; socket++) {
          const port = BIRTHDAY_PORT + socket;
          this.birthday.opened += 1;
          this.#sockets.set(socket, port);
          this.host.open(port, (payload, from) => this.#receive(payload, from, socket));
        }
        return;
      case "keep-sockets":
        for (const [socket, port] of this.#sockets)
          if (!effect.sockets.includes(socket)) {
            this.host.close(port);
            this.#sockets.delete(socket);
          }
    }
  }

  #portOf(socket: number | undefined): number {
    return socket === undefined ? AGENT_PORT : (this.#sockets.get(socket) ?? 0);
  }
}
