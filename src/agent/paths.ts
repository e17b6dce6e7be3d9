import { fromBase64, toBase64 } from "../kit/bytes.js";
import { type Endpoint, tryEndpoint } from "../kit/endpoint.js";
import { type Cidr, type Ip, parseIp } from "../kit/ip.js";
import type { Key } from "../kit/key.js";
import { type Millis, SECOND } from "../kit/time.js";
import { TokenBucket } from "../kit/tokenbucket.js";
import type { Standing } from "../nat/obstacle.js";
import { fittingMtu } from "../nat/pathmtu.js";
import { ProbeGate } from "../nat/probegate.js";
import type { Clock } from "../sys/clock.js";
import type { DatagramSocket } from "../sys/dgram.js";
import type { Log } from "../sys/log.js";
import type { Random } from "../sys/random.js";
import type { MapPeer, NetworkMap } from "../wire/map.js";
import { probeSender } from "../wire/probe.js";
import type { Backend, InterfaceState } from "../wireguard/interface.js";
import { Alarm } from "./alarm.js";
import type { Identity } from "./identity.js";
import { loopbackOf, loopbackPortOf } from "./loopback.js";
import { CALLERS_MAX, chosenPeers, isSearchable, PATHS_MAX, quietest, type Searchable } from "./pathchoice.js";
import { PeerPath, type Ways } from "./peerpath.js";
import { Pinger } from "./pinger.js";
import type { Relays } from "./relays.js";

export type PathsParts = {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly relays: Relays;
  openSocket(port: number, address?: Ip): Promise<DatagramSocket>;
  /** Hands a sealed probe to the coordinator, for a peer that no relay reaches. */
  callThrough(to: Key, probe: string): void;
};

/** Without any way for so long, WireGuard tries the endpoints by itself: probes may be what does not get through. */
export const GIVE_UP_MS: Millis = 3 * SECOND;

const LOCALHOST = parseIp("127.0.0.1");

/** The ways to all peers: who sent what came in, what each path finder wants done, and when it is due. */
export class Paths {
  readonly #parts: PathsParts;
  readonly #ways: Ways;
  readonly #gate: ProbeGate;
  readonly #pinger: Pinger;
  readonly #alarm: Alarm;
  readonly #byKey = new Map<Key, PeerPath>();
  /** Peers that may have a path, which beyond PATHS_MAX they get by calling; and whose discovery key it is. */
  #peers = new Map<Key, Searchable>();
  #callers = new Map<Key, Key>();
  #tunnels: readonly Cidr[] = [];
  readonly #allowance = new TokenBucket(CALLERS_MAX);
  readonly #warnings = new Set<string>();
  #backend: Backend | undefined;
  #listenPort: number;
  #standPort: number;
  #here: Standing = { endpoints: [], nat: "unknown" };
  /** What the paths in use carried when there last was one that was measured. */
  #carried: readonly number[] | undefined;

  constructor(parts: PathsParts, identity: Pick<Identity, "discovery">, listenPort: number) {
    const { clock, random, relays, openSocket } = parts;
    this.#parts = parts;
    this.#listenPort = listenPort;
    this.#standPort = loopbackPortOf(listenPort);
    this.#gate = new ProbeGate(identity.discovery, random);
    this.#alarm = new Alarm(clock, () => this.#tick());
    this.#ways = {
      now: () => clock.now(),
      random,
      send: (to, datagram, whole) => this.#backend?.probes?.send(to, datagram, whole),
      relay: ({ homeRelay, publicKey }, datagram) => relays.send(homeRelay, publicKey, datagram),
      call: (peer, sealed) => this.#call(peer, sealed),
      seal: (peer, probe) => this.#gate.seal(peer, probe),
      heard: (datagram, from, socket) => this.#opened(datagram, { kind: "direct", from, socket }),
      due: (at) => this.#alarm.by(at),
      point: (peer, endpoint) => this.#point(peer, endpoint),
      openSocket,
      wireguard: () => ({ address: LOCALHOST, port: this.#listenPort }),
      warn: (text) => this.#warn(text),
    };
    this.#pinger = new Pinger(parts, {
      seal: (peer, probe) => this.#gate.seal(peer, probe),
      direct: ({ publicKey }, to, socket, datagram) => this.#byKey.get(publicKey)?.direct(to, socket, datagram),
      relay: ({ homeRelay, publicKey }, datagram) => relays.probe(homeRelay, publicKey, datagram),
    });
  }

  get warnings(): readonly string[] {
    return [...this.#warnings];
  }

  attach(backend: Backend): void {
    this.#backend = backend;
  }

  /** The peers of the map; `heard`: where each was last heard from in an earlier run, by public key. */
  async setMap({ peers, ranges }: NetworkMap, heard: Readonly<Record<string, string>>): Promise<void> {
    // A data plane without probes has nothing to search with.
    const all = this.#backend?.probes === undefined ? [] : peers.filter(isSearchable);
    this.#peers = new Map(all.map((peer) => [peer.publicKey, peer]));
    this.#callers = new Map(all.map(({ discoveryKey, publicKey }) => [discoveryKey, publicKey]));
    this.#tunnels = ranges;
    this.#rekey(all);
    const searched = chosenPeers(all, (key) => this.#byKey.has(key));
    this.#gate.setPeers(searched.map(({ publicKey, discoveryKey }) => ({ peer: publicKey, discoveryKey })));
    const keys = new Set(searched.map(({ publicKey }) => publicKey));
    for (const [key, path] of this.#byKey)
      if (!keys.has(key)) {
        path.close();
        this.#byKey.delete(key);
      }
    const opening = searched.map(async (peer) => {
      const known = this.#byKey.get(peer.publicKey);
      const path = known ?? this.#meet(peer);
      const opened = known === undefined ? path.open() : undefined;
      path.learn(peer, tryEndpoint(heard[peer.publicKey] ?? ""));
      path.do(path.finder.setRelay(this.#parts.relays.reaches(peer.homeRelay), this.#parts.clock.now()));
      await opened;
    });
    await Promise.all(opening);
  }

  /** A peer with a new WireGuard key is where it was: its path is kept. */
  #rekey(peers: readonly MapPeer[]): void {
    const unmet = peers.filter(({ publicKey }) => !this.#byKey.has(publicKey));
    if (unmet.length === 0 || this.#byKey.size === 0) return;
    const known = new Map([...this.#byKey.values()].map((path) => [path.peer.id, path]));
    for (const { id, publicKey, discoveryKey } of unmet) {
      const path = known.get(id);
      if (path === undefined || path.peer.discoveryKey !== discoveryKey) continue;
      this.#byKey.delete(path.peer.publicKey);
      this.#byKey.set(publicKey, path);
    }
  }

  /** A relay can be used, or not any more. */
  relaysChanged(): void {
    const { relays, clock } = this.#parts;
    for (const path of this.#byKey.values())
      path.do(path.finder.setRelay(relays.reaches(path.peer.homeRelay), clock.now()));
  }

  /** This device's endpoints and NAT have become known. */
  setHere(here: Standing): void {
    this.#here = here;
    for (const path of this.#byKey.values()) path.do(path.finder.setHere(here, this.#parts.clock.now()));
  }

  /** This machine is somewhere else. */
  networkChanged(): void {
    this.#here = { endpoints: [], nat: "unknown" };
    this.#carried = undefined;
    for (const path of this.#byKey.values()) path.do(path.finder.networkChanged(this.#parts.clock.now()));
  }

  /** Traffic is wanted with this peer, whether or not there is any. */
  wake(peer: Key): void {
    this.#pathOf(peer)?.wake();
  }

  /** Whether somebody is talked to. */
  isTalking(): boolean {
    return [...this.#byKey.values()].some((path) => path.isActive);
  }

  /**
   * The tunnel's MTU, `least` until a path in use has been measured. A relay carries every size, and a path that has
   * fallen back to it, or is silent, changes nothing: an MTU that goes up and down breaks what is under way.
   */
  mtu(least: number): number {
    const carried = [...this.#byKey.values()].flatMap((path) => (path.isActive ? (path.carries ?? []) : []));
    if (carried.length > 0) this.#carried = carried;
    return this.#carried === undefined ? least : fittingMtu(this.#carried, least);
  }

  of(peer: Key): PeerPath | undefined {
    return this.#byKey.get(peer);
  }

  /** What WireGuard says of its peers. */
  observe(state: InterfaceState): void {
    // Port 0 is one of the system's choice.
    this.#listenPort = state.listenPort;
    for (const peer of state.peers) this.#byKey.get(peer.publicKey)?.observe(peer);
  }

  /** A probe that came on WireGuard's port. */
  receive(datagram: Uint8Array, from: Endpoint): void {
    this.#opened(datagram, { kind: "direct", from, socket: undefined });
  }

  /** A probe that came through a relay. Who sent it is what the probe says: the relay is not believed. */
  receiveRelayed(datagram: Uint8Array): void {
    this.#opened(new Uint8Array(datagram), { kind: "relay" });
  }

  /** A probe that came through the coordinator. */
  called(probe: string): void {
    const datagram = fromBase64(probe);
    if (datagram !== undefined) this.#opened(datagram, { kind: "relay" });
  }

  fromRelay(peer: Key, datagram: Uint8Array): void {
    this.#pathOf(peer)?.fromRelay(datagram);
  }

  /** Measures the way that is used now. */
  async ping(peer: Key): Promise<Millis | undefined> {
    const path = this.#pathOf(peer);
    if (path === undefined) return undefined;
    this.wake(peer);
    return this.#pinger.ping(path.peer, path.route);
  }

  stop(): void {
    this.#alarm.stop();
    for (const path of this.#byKey.values()) path.close();
    this.#byKey.clear();
  }

  #meet(peer: Searchable): PeerPath {
    const taken = new Set([...this.#byKey.values()].map(({ stand }) => stand.address));
    const stand = loopbackOf(peer.publicKey, this.#standPort, (address) => taken.has(address));
    const path = new PeerPath(peer, stand, this.#tunnels, this.#ways);
    this.#byKey.set(peer.publicKey, path);
    path.do(path.finder.setHere(this.#here, this.#parts.clock.now()));
    return path;
  }

  /** The peer's path; one that had none is given it, in place of a quiet peer's where there are too many. */
  #pathOf(key: Key): PeerPath | undefined {
    const known = this.#byKey.get(key);
    const peer = this.#peers.get(key);
    const now = this.#parts.clock.now();
    if (known !== undefined || peer === undefined || !this.#allowance.spend(1, now)) return known;
    if (this.#byKey.size >= PATHS_MAX) {
      const quiet = quietest(this.#byKey.values());
      if (quiet === undefined) {
        this.#warn(
          `more than ${PATHS_MAX} peers are talked to at once: some get no relay and no way through their NAT`,
        );
        return undefined;
      }
      quiet.close();
      this.#byKey.delete(quiet.peer.publicKey);
    }
    const path = this.#meet(peer);
    const met = [...this.#byKey.values()].flatMap(({ peer }) => (isSearchable(peer) ? [peer] : []));
    this.#gate.setPeers(met.map(({ publicKey, discoveryKey }) => ({ peer: publicKey, discoveryKey })));
    void path.open();
    path.learn(peer, undefined);
    path.do(path.finder.setRelay(this.#parts.relays.reaches(peer.homeRelay), now));
    return path;
  }

  #opened(datagram: Uint8Array, arrival: Parameters<PeerPath["finder"]["receive"]>[1]): void {
    const now = this.#parts.clock.now();
    const sender = probeSender(datagram);
    const caller = sender === undefined ? undefined : this.#callers.get(toBase64(sender) as Key);
    if (caller !== undefined) this.#pathOf(caller);
    const opened = this.#gate.open(datagram, now);
    const path = opened === undefined ? undefined : this.#byKey.get(opened.peer as Key);
    if (opened === undefined || path === undefined) return;
    if (!this.#pinger.receive(opened.probe, path.peer, arrival.kind))
      path.do(path.finder.receive(opened.probe, arrival, now));
  }

  #call(peer: MapPeer, sealed: Uint8Array): void {
    const { relays, callThrough } = this.#parts;
    if (relays.reaches(peer.homeRelay)) relays.probe(peer.homeRelay, peer.publicKey, sealed);
    // Until the relay is connected the coordinator is quicker; a call that comes twice is one.
    if (!relays.isConnected(peer.homeRelay)) callThrough(peer.publicKey, toBase64(sealed));
  }

  #point(peer: Key, endpoint: Endpoint): void {
    this.#backend?.point(peer, endpoint).catch(() => this.#warn("WireGuard refused a peer's new endpoint"));
  }

  #warn(text: string): void {
    if (!this.#warnings.has(text)) this.#parts.log.warn(text);
    this.#warnings.add(text);
  }

  #tick(): void {
    const now = this.#parts.clock.now();
    for (const path of this.#byKey.values())
      if ((path.finder.deadline ?? Infinity) <= now) path.do(path.finder.tick(now));
      else this.#alarm.by(path.finder.deadline);
  }
}
