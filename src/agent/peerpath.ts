import { datagramKind } from "../kit/datagramkind.js";
import { type Endpoint, tryEndpoint } from "../kit/endpoint.js";
import { asFailure } from "../kit/failure.js";
import { type Cidr, familyOf, type Ip, parseIp } from "../kit/ip.js";
import type { Key } from "../kit/key.js";
import { type Millis, SECOND } from "../kit/time.js";
import type { PathEffect, Route } from "../nat/path.js";
import { ACTIVE_MS, Pathfinder } from "../nat/pathfinder.js";
import { tunnelMtu } from "../nat/pathmtu.js";
import type { DatagramSocket } from "../sys/dgram.js";
import type { MapPeer } from "../wire/map.js";
import type { Probe } from "../wire/probe.js";
import type { PeerState } from "../wireguard/interface.js";
import { isLoopback } from "./loopback.js";

/** What a peer's path needs of the agent around it. */
export type Ways = {
  now(): Millis;
  random(length: number): Uint8Array;
  /** From WireGuard's own port; a `whole` one nobody may cut. */
  send(to: Endpoint, datagram: Uint8Array, whole: boolean): void;
  /** Through the peer's relay. */
  relay(peer: MapPeer, datagram: Uint8Array): void;
  /** A probe through the peer's relay, or through the coordinator. */
  call(peer: MapPeer, sealed: Uint8Array): void;
  seal(peer: Key, probe: Probe): Uint8Array | undefined;
  /** What came in on a birthday socket and is a probe. */
  heard(datagram: Uint8Array, from: Endpoint, socket: number): void;
  /** The path finder wants to be asked again then. */
  due(at: Millis | undefined): void;
  /** Tells WireGuard the peer's endpoint. */
  point(peer: Key, endpoint: Endpoint): void;
  openSocket(port: number, address?: Ip): Promise<DatagramSocket>;
  /** Where WireGuard listens on this machine. */
  wireguard(): Endpoint;
  warn(text: string): void;
};

/** Kept while there is no way at all: a handshake's first message need not wait five seconds for WireGuard's next. */
const HELD_MAX = 4;
const HELD_MS: Millis = 4 * SECOND;
/** Traffic is a matter of seconds (ACTIVE_MS): it is not noted for every datagram. */
const TRAFFIC_EVERY_MS: Millis = SECOND;
const ANY4 = parseIp("0.0.0.0");

/**
 * One peer as the agent reaches it: the path finder's decisions carried out, the loopback socket that stands for the
 * peer while WireGuard cannot send to it straight, and the sockets opened for guessing ports.
 */
export class PeerPath {
  readonly finder: Pathfinder;
  /** What WireGuard knows the peer by while its datagrams go through us. */
  readonly stand: Endpoint;
  peer: MapPeer;
  readonly #ways: Ways;
  /** Undefined while it is being opened. */
  readonly #guessing = new Map<number, DatagramSocket | undefined>();
  #socket: DatagramSocket | undefined;
  /** Came in before the loopback socket was there. */
  readonly #early: Uint8Array[] = [];
  #closed = false;
  #held: { readonly datagram: Uint8Array; readonly at: Millis }[] = [];
  #lostAt: Millis | undefined;
  #traffic = { at: -Infinity, sent: 0, received: 0, observedAt: -Infinity };

  constructor(peer: MapPeer, stand: Endpoint, tunnels: readonly Cidr[], ways: Ways) {
    this.peer = peer;
    this.stand = stand;
    this.#ways = ways;
    this.finder = new Pathfinder((length) => ways.random(length), tunnels, ways.now());
  }

  /** Opens the loopback socket; without it the peer is reached directly or not at all. */
  async open(): Promise<void> {
    try {
      const socket = await this.#ways.openSocket(this.stand.port, this.stand.address);
      if (this.#closed) return socket.close();
      socket.onReceive = (datagram, from) => this.#fromWireGuard(datagram, from);
      this.#socket = socket;
      for (const datagram of this.#early.splice(0)) this.#toWireGuard(datagram);
    } catch (error) {
      this.#ways.warn(`${this.peer.name} cannot be reached through a relay: ${asFailure(error).message}`);
    }
  }

  close(): void {
    this.#closed = true;
    this.#socket?.close();
    this.#keepSockets([]);
  }

  /** Traffic of late: as long as the path finder looks after the path. */
  get isActive(): boolean {
    return this.quietFor < ACTIVE_MS;
  }

  /** Since the last traffic. */
  get quietFor(): Millis {
    return this.#ways.now() - this.#traffic.at;
  }

  /** For how long there has been traffic, and no way. */
  get lostFor(): Millis {
    return this.route.kind === "none" && this.#lostAt !== undefined ? this.#ways.now() - this.#lostAt : 0;
  }

  get route(): Route {
    return this.finder.route;
  }

  /** The largest inner packet that the direct path carries whole; undefined while there is none, or it is measured. */
  get carries(): number | undefined {
    const { path } = this.finder;
    if (path.kind !== "direct" || path.mtu === undefined) return undefined;
    return tunnelMtu(path.mtu, familyOf(path.endpoint.address));
  }

  /** Where WireGuard should send; undefined while no way is known. */
  get endpoint(): Endpoint | undefined {
    const { route } = this.finder;
    if (route.kind === "none") return undefined;
    return route.kind === "direct" && route.socket === undefined ? route.endpoint : this.stand;
  }

  /** The peer as the map has it now; `heard`: where it was last heard from in an earlier run. */
  learn(peer: MapPeer, heard: Endpoint | undefined): void {
    this.peer = peer;
    const told = peer.endpoints.map(tryEndpoint).filter((endpoint) => endpoint !== undefined);
    this.do(this.finder.setPeerEndpoints([...(heard === undefined ? [] : [heard]), ...told], this.#ways.now()));
  }

  /** WireGuard has, or should have, traffic with the peer. */
  wake(): void {
    const now = this.#ways.now();
    if (this.route.kind !== "none") this.#lostAt = undefined;
    else if (this.#lostAt === undefined || !this.isActive) this.#lostAt = now;
    this.#traffic.at = now;
    this.do(this.finder.traffic(now));
  }

  /** What WireGuard says of the peer: traffic that went past us, and an endpoint that it has moved by itself. */
  observe({ endpoint, sentBytes, receivedBytes }: PeerState): void {
    const { sent, received, observedAt } = this.#traffic;
    const now = this.#ways.now();
    this.#traffic = { ...this.#traffic, sent: sentBytes, received: receivedBytes, observedAt: now };
    if (sentBytes !== sent || receivedBytes !== received) this.wake();
    // Somewhen since the last look: a path that dies must not be believed in for longer than its last datagram proves.
    if (receivedBytes > received && endpoint !== undefined) this.do(this.finder.carried(endpoint, observedAt, now));
    const want = this.endpoint;
    if (want === undefined || endpoint === undefined) return;
    // From one direct endpoint to another it has followed an authentic datagram, and the path finder will follow too.
    if (isLoopback(endpoint.address) !== isLoopback(want.address)) this.#ways.point(this.peer.publicKey, want);
  }

  /** A datagram of the peer's that came through a relay. */
  fromRelay(datagram: Uint8Array): void {
    if (datagramKind(datagram) !== "wireguard") return;
    this.#toWireGuard(datagram);
  }

  do(effects: readonly PathEffect[]): void {
    for (const effect of effects) this.#doOne(effect);
    this.#ways.due(this.finder.deadline);
  }

  #doOne(effect: PathEffect): void {
    switch (effect.kind) {
      case "probe": {
        const sealed = this.#ways.seal(this.peer.publicKey, effect.probe);
        if (sealed !== undefined) this.direct(effect.to, effect.socket, sealed, effect.whole);
        return;
      }
      case "relay": {
        const sealed = this.#ways.seal(this.peer.publicKey, effect.probe);
        if (sealed !== undefined) this.#ways.call(this.peer, sealed);
        return;
      }
      case "use":
        this.#use();
        return;
      case "open-sockets":
        for (let socket = effect.first; socket < effect.first + effect.count; socket++) void this.#openSocket(socket);
        return;
      case "keep-sockets":
        this.#keepSockets(effect.sockets);
    }
  }

  #use(): void {
    const { endpoint } = this;
    if (endpoint === undefined) return;
    this.#ways.point(this.peer.publicKey, endpoint);
    const now = this.#ways.now();
    for (const { datagram, at } of this.#held.splice(0)) if (now - at < HELD_MS) this.#forward(datagram);
  }

  #fromWireGuard(datagram: Uint8Array, from: Endpoint): void {
    const { address, port } = this.#ways.wireguard();
    // Other programs of this machine can send here as well.
    if (from.port !== port || from.address !== address || datagramKind(datagram) !== "wireguard") return;
    if (this.#ways.now() - this.#traffic.at >= TRAFFIC_EVERY_MS) this.wake();
    this.#forward(datagram);
  }

  #forward(datagram: Uint8Array): void {
    const { route } = this.finder;
    if (route.kind === "none") {
      this.#held.push({ datagram: new Uint8Array(datagram), at: this.#ways.now() });
      if (this.#held.length > HELD_MAX) this.#held.shift();
    }
    if (route.kind === "direct" || route.kind === "both") this.direct(route.endpoint, route.socket, datagram);
    if (route.kind === "relay" || route.kind === "both") this.#ways.relay(this.peer, datagram);
  }

  /** Past every relay, from WireGuard's port or a birthday socket. */
  direct(to: Endpoint, socket: number | undefined, datagram: Uint8Array, whole = false): void {
    if (socket === undefined) this.#ways.send(to, datagram, whole);
    else this.#guessing.get(socket)?.send(to, datagram, whole);
  }

  /** From the peer's loopback address, which is where WireGuard then answers. */
  #toWireGuard(datagram: Uint8Array): void {
    if (this.#ways.now() - this.#traffic.at >= TRAFFIC_EVERY_MS) this.wake();
    // A copy: the datagram is a view of a buffer that is used again, and the socket may send later.
    const copy = new Uint8Array(datagram);
    if (this.#socket !== undefined) this.#socket.send(this.#ways.wireguard(), copy);
    else if (this.#early.length < HELD_MAX) this.#early.push(copy);
  }

  async #openSocket(number: number): Promise<void> {
    this.#guessing.set(number, undefined);
    const socket = await this.#ways.openSocket(0, ANY4).catch(() => undefined);
    if (socket === undefined) return;
    if (!this.#guessing.has(number)) return socket.close();
    socket.onReceive = (datagram, from) => {
      const kind = datagramKind(datagram);
      if (kind === "wireguard") this.#toWireGuard(datagram);
      else if (kind === "probe") this.#ways.heard(datagram, from, number);
    };
    this.#guessing.set(number, socket);
  }

  #keepSockets(kept: readonly number[]): void {
    for (const [number, socket] of this.#guessing)
      if (!kept.includes(number)) {
        socket?.close();
        this.#guessing.delete(number);
      }
  }
}
