import { datagramKind } from "../kit/datagramkind.js";
import type { Endpoint } from "../kit/endpoint.js";
import type { Family, Ip } from "../kit/ip.js";
import { type Key, keyOf } from "../kit/key.js";
import { type Millis, SECOND } from "../kit/time.js";
import type { HttpAnswer, HttpRequest } from "../nat/portmap/service.js";
import type { StunReport } from "../nat/stunreport.js";
import type { Clock } from "../sys/clock.js";
import type { DatagramSocket } from "../sys/dgram.js";
import type { Exec } from "../sys/exec.js";
import type { Log } from "../sys/log.js";
import type { NetInfo } from "../sys/netinfo.js";
import type { Random } from "../sys/random.js";
import type { DialStream } from "../sys/streamdial.js";
import type { AgentConfig } from "../wire/agentconfig.js";
import type { DeviceReport } from "../wire/control.js";
import type { MapPeer, NetworkMap } from "../wire/map.js";
import type { Backend, InterfaceState } from "../wireguard/interface.js";
import { AppsSeen } from "./appsseen.js";
import { ForwardedPort } from "./forwardedport.js";
import { findGateway } from "./gateway.js";
import type { Identity } from "./identity.js";
import { Locator } from "./locator.js";
import { GIVE_UP_MS, Paths } from "./paths.js";
import { PortMapping } from "./portmapping.js";
import { type RelayMemory, Relays } from "./relays.js";
import { describeDevice } from "./report.js";
import { Silences } from "./silences.js";
import {
  forwardedEndpoint,
  type Known,
  type Move,
  moveBetween,
  ownAddresses,
  type PublicAddresses,
  standingOf,
} from "./standing.js";

export type TraversalParts = {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly exec: Exec;
  readonly dialRelay: DialStream;
  netInfo(): NetInfo;
  lookUp(name: string, family?: Family): Promise<Ip>;
  /** On every address, or on the given one; port 0 is any. */
  openSocket(port: number, address?: Ip): Promise<DatagramSocket>;
  fetchHttp(request: HttpRequest, from: Ip): Promise<HttpAnswer | undefined>;
};

export type TraversalEvents = {
  /** What the coordinator is told has changed. */
  onReport(report: DeviceReport): void;
  /** A sealed probe for a peer that no relay reaches. */
  onCall(to: Key, probe: string): void;
  /** Worth keeping for the next run. */
  onRelays(known: RelayMemory): void;
};

/** After a move, for a network comes in pieces: an address, then its routes, then its resolvers. */
const SETTLING_MS: readonly Millis[] = [SECOND, 3 * SECOND, 8 * SECOND];

/** How this device finds ways to the others: relays, STUN, port mapping and the paths, as one. */
export class Traversal {
  readonly relays: Relays;
  readonly paths: Paths;
  readonly portMapping: PortMapping;
  readonly forwarded: ForwardedPort;
  readonly #parts: TraversalParts;
  readonly #config: AgentConfig;
  readonly #identity: Identity;
  readonly #events: TraversalEvents;
  readonly #locator: Locator;
  readonly #waiting = new Set<(report: StunReport) => void>();
  #stun: StunReport | undefined;
  #info: NetInfo;
  #seen: PublicAddresses = {};
  #map: NetworkMap | undefined;
  #listenPort: number;
  readonly #apps = new AppsSeen();
  readonly #silences = new Silences();
  #said = "";
  #wanted = "";
  #settling: readonly Millis[] = [];
  /** WireGuard's interface has been seen. */
  #isOpen = false;
  #home: string | undefined;

  constructor(parts: TraversalParts, config: AgentConfig, identity: Identity, events: TraversalEvents) {
    this.#parts = parts;
    this.#config = config;
    this.#identity = identity;
    this.#events = events;
    this.#info = parts.netInfo();
    this.#listenPort = config.listenPort;
    this.relays = new Relays(parts, identity.machine, {
      onDatagram: (from, datagram) => this.paths.fromRelay(from, datagram),
      onProbe: (_from, datagram) => this.paths.receiveRelayed(datagram),
      onChange: () => this.#relaysChanged(),
    });
    this.paths = new Paths({ ...parts, relays: this.relays, callThrough: events.onCall }, identity, config.listenPort);
    this.portMapping = new PortMapping(parts, {
      dialBack: (endpoint, token) => this.relays.dialBack(endpoint, token),
      onMapped: () => this.#told(),
    });
    this.forwarded = new ForwardedPort(parts, {
      dialBack: (endpoint, token) => this.#tryForward(endpoint, token),
      onChange: () => this.#told(),
    });
    this.#locator = new Locator(
      { ...parts, send: (to, datagram) => this.#backend?.probes?.send(to, datagram) },
      (one) => {
        this.#stun = one.report;
        this.relays.measured(one.latencies);
        this.#told();
        for (const heard of this.#waiting) heard(one.report);
      },
    );
  }

  #backend: Backend | undefined;

  get stun(): StunReport | undefined {
    return this.#stun;
  }

  attach(backend: Backend): void {
    this.#backend = backend;
    this.paths.attach(backend);
    if (backend.probes === undefined) return;
    backend.probes.onReceive = (datagram, from) => {
      if (datagramKind(datagram) === "stun") this.#locator.receive(datagram, from);
      else if (!this.forwarded.receive(datagram) && !this.portMapping.receive(datagram))
        this.paths.receive(datagram, from);
    };
  }

  async setMap(map: NetworkMap, heard: Readonly<Record<string, string>>): Promise<void> {
    this.#map = map;
    const relays = map.relays ?? [];
    this.relays.setRelays(relays);
    const opened = this.paths.setMap(map, heard);
    if (this.#locator.setRelays(relays)) this.#locate();
    this.#told();
    await opened;
  }

  admit(admission: Uint8Array): void {
    this.relays.admit(admission);
    this.#events.onRelays(this.relays.memory);
  }

  /** By a peer, through the coordinator: it does that when it does not get through to our home relay. */
  called(probe: string): void {
    this.relays.doubt();
    this.paths.called(probe);
  }

  setSeen(seen: PublicAddresses): void {
    this.#seen = seen;
    this.#told();
  }

  /** Looks whether the machine has moved, and asks STUN when it is time; the caller calls once a second. */
  look(): Move {
    this.relays.look();
    const info = this.#parts.netInfo();
    const move = moveBetween(ownAddresses(this.#config, this.#info), ownAddresses(this.#config, info));
    this.#info = info;
    if (move === "elsewhere") {
      this.#stun = undefined;
      this.portMapping.abandon();
      this.relays.moved();
      this.paths.networkChanged();
    }
    if (move !== "none") {
      this.#locator.forget();
      if (move === "more") this.relays.hurry();
      this.#locate();
      void this.#mapPort();
      this.#told();
    }
    const now = this.#parts.clock.now();
    if (move !== "none") this.#settling = SETTLING_MS.map((after) => now + after);
    else if (this.#settling[0] !== undefined && now >= this.#settling[0]) this.#settle();
    else if (this.paths.isTalking() && this.#locator.isDue(now)) this.#locate();
    return move;
  }

  /** What was tried too early is tried again: a dial without a route hangs, or takes the wrong one. */
  #settle(): void {
    this.#settling = this.#settling.slice(1);
    if (this.relays.isConnected(this.relays.home)) return;
    this.relays.moved();
    this.#locate();
  }

  observe(state: InterfaceState): void {
    const moved = this.#listenPort !== state.listenPort;
    this.#listenPort = state.listenPort;
    this.paths.observe(state);
    this.#silences.observe(state, this.#parts.clock.now());
    // A round begun before WireGuard's port was there may have asked nobody, and the next one is far.
    if (!this.#isOpen && this.#stun?.blocked !== false) this.#locate();
    this.#isOpen = true;
    const seen = this.#apps.observe(state, this.#map?.peers ?? [], this.#parts.clock.wall());
    if (moved || seen) this.#told();
  }

  /** Since the peer was last heard, where it leaves WireGuard's words unanswered. */
  silenceOf(peer: Key): Millis | undefined {
    return this.#silences.of(peer, this.#parts.clock.now());
  }

  /**
   * Where WireGuard should send what is for the peer. `search`: the endpoints tried one after another, for a peer that
   * knows no probes, or when no probe gets through.
   */
  endpointOf(peer: MapPeer, search: () => Endpoint | undefined): Endpoint | undefined {
    const path = this.paths.of(peer.publicKey);
    if (path === undefined) return search();
    return path.endpoint ?? (path.lostFor > GIVE_UP_MS ? (search() ?? path.stand) : path.stand);
  }

  /** Whether WireGuard goes round the peer's endpoints by itself. */
  isSearched(peer: Key): boolean {
    const path = this.paths.of(peer);
    return path === undefined || (path.endpoint === undefined && path.lostFor > GIVE_UP_MS);
  }

  /** The map with the MTU that the paths in use carry. */
  fitted(map: NetworkMap): NetworkMap {
    return { ...map, mtu: this.paths.mtu(map.mtu) };
  }

  /** True once for each time that the paths want another interface: a search without probes or its end, another MTU. */
  wantsAnew(): boolean {
    const given = (this.#map?.peers ?? []).filter(
      ({ publicKey }) => this.paths.of(publicKey) !== undefined && this.isSearched(publicKey),
    );
    const told = this.#map?.mtu ?? 0;
    const measured = this.paths.mtu(told);
    const wants = [...(measured === told ? [] : [measured]), ...given.map(({ publicKey }) => publicKey)].join();
    const changed = wants !== this.#wanted;
    this.#wanted = wants;
    return changed;
  }

  /** What the coordinator is told. */
  report(): DeviceReport {
    return describeDevice(this.#config, this.#known(), {
      discoveryKey: keyOf(this.#identity.discovery.publicKey),
      homeRelay: this.relays.home,
      apps: this.#apps.told,
    });
  }

  /** A fresh round of STUN; undefined when there is nobody to ask, or `timeoutMs` is over. */
  async locate(timeoutMs: Millis): Promise<StunReport | undefined> {
    const over = new AbortController();
    const late = this.#parts.clock.sleep(timeoutMs, over.signal).catch(() => undefined);
    let heard: (report: StunReport) => void = () => undefined;
    const located = new Promise<StunReport>((resolve) => {
      heard = resolve;
    });
    this.#waiting.add(heard);
    this.#locate();
    const report = await Promise.race([located, late]);
    over.abort();
    this.#waiting.delete(heard);
    return report ?? undefined;
  }

  async stop(): Promise<void> {
    this.forwarded.stop();
    await this.portMapping.stop();
    this.relays.stop();
    this.#locator.stop();
    this.paths.stop();
  }

  #known(): Known {
    const { mapped } = this.portMapping;
    const tunnels = this.#map?.ranges ?? [];
    const [seen, stun] = [this.#seen, this.#stun];
    const forward = this.forwarded.leads;
    return { info: this.#info, listenPort: this.#listenPort, seen, stun, mapped, forward, tunnels };
  }

  /** A relay whose datagrams are known to get here; and not while a mapping is tried, which takes all that one sends. */
  #tryForward(endpoint: Endpoint, token: Uint8Array): boolean {
    if (this.#stun === undefined || this.#stun.blocked || this.portMapping.status?.kind === "verifying") return false;
    return this.relays.dialBack(endpoint, token);
  }

  #locate(): void {
    void this.#locator.begin({ port: this.#listenPort, addresses: ownAddresses(this.#config, this.#info) });
  }

  /** Peers and the coordinator hear of a change; equal values are nothing. */
  #told(): void {
    this.forwarded.follow(forwardedEndpoint(this.#config, this.#known()));
    this.paths.setHere(standingOf(this.#config, this.#known()));
    const report = this.report();
    const text = JSON.stringify(report);
    if (text === this.#said) return;
    this.#said = text;
    this.#events.onReport(report);
  }

  #relaysChanged(): void {
    if (this.relays.home !== this.#home) this.#events.onRelays(this.relays.memory);
    this.#home = this.relays.home;
    this.paths.relaysChanged();
    if (this.portMapping.status === undefined) void this.#mapPort();
    this.#told();
  }

  /** Asks the router, once a relay can prove what it promises. */
  async #mapPort(): Promise<void> {
    const connected = this.relays.isConnected(this.relays.home);
    if (this.#config.portMapping === false || !connected || this.#listenPort === 0) return;
    const gateway = await findGateway(this.#parts.exec, this.#info, this.#config.interface);
    if (gateway !== undefined) await this.portMapping.start(gateway, this.#listenPort);
  }
}
