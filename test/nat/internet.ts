import type { Endpoint } from "../../src/kit/endpoint.js";
import { formatEndpoint } from "../../src/kit/endpoint.js";
import { familyOf, type Ip } from "../../src/kit/ip.js";
import type { Millis } from "../../src/kit/time.js";

/** An Internet in one thread: its own clock and chance, networks, hosts, and NATs named as RFC 4787 names them. */

export type Datagram = {
  readonly from: Endpoint;
  readonly to: Endpoint;
  readonly payload: Uint8Array;
  /** "Don't fragment". */
  readonly whole: boolean;
};

export interface Sink {
  deliver(datagram: Datagram): void;
}

type Job = { readonly at: Millis; readonly order: number; readonly run: () => void };

export class Internet {
  now: Millis = 0;
  #jobs: Job[] = [];
  #order = 0;
  #state: number;

  constructor(seed: number) {
    this.#state = (seed * 2_654_435_761 + 12_345) >>> 0;
  }

  /** From 0 to below 1 (mulberry32). */
  chance(): number {
    this.#state = (this.#state + 0x6d2b_79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  }

  random = (length: number): Uint8Array => Uint8Array.from({ length }, () => Math.floor(this.chance() * 256));

  after(delay: Millis, run: () => void): void {
    const job = { at: this.now + delay, order: this.#order++, run };
    let at = this.#jobs.push(job) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      const above = this.#jobs[parent];
      if (above === undefined || before(above, job)) break;
      this.#jobs[at] = above;
      at = parent;
    }
    this.#jobs[at] = job;
  }

  /** Lets everything happen that is due until then. */
  runTo(end: Millis): void {
    for (let [first] = this.#jobs; first !== undefined && first.at <= end; [first] = this.#jobs) {
      this.#removeFirst();
      this.now = Math.max(this.now, first.at);
      first.run();
    }
    this.now = end;
  }

  #removeFirst(): void {
    const last = this.#jobs.pop();
    if (last === undefined || this.#jobs.length === 0) return;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      const [left, right] = [this.#jobs[child], this.#jobs[child + 1]];
      if (left === undefined) break;
      if (right !== undefined && before(right, left)) child += 1;
      const smaller = this.#jobs[child];
      if (smaller === undefined || before(last, smaller)) break;
      this.#jobs[at] = smaller;
      at = child;
    }
    this.#jobs[at] = last;
  }
}

const before = (left: Job, right: Job): boolean =>
  left.at < right.at || (left.at === right.at && left.order < right.order);

export type NetworkTraits = { delayMs: Millis; jitterMs: Millis; loss: number; mtu: number };

/** A network: sinks by address, and a gateway for all other addresses. */
export class Network {
  readonly internet: Internet;
  readonly traits: NetworkTraits;
  gateway: Sink | undefined;
  readonly #sinks = new Map<Ip, Sink>();

  constructor(internet: Internet, traits: Partial<NetworkTraits> = {}) {
    this.internet = internet;
    this.traits = { delayMs: 2, jitterMs: 0, loss: 0, mtu: 1_500, ...traits };
  }

  attach(address: Ip, sink: Sink): void {
    this.#sinks.set(address, sink);
  }

  detach(address: Ip): void {
    this.#sinks.delete(address);
  }

  send(datagram: Datagram): void {
    const { delayMs, jitterMs, loss, mtu } = this.traits;
    const size = datagram.payload.length + (familyOf(datagram.to.address) === 4 ? 28 : 48);
    if ((datagram.whole && size > mtu) || this.internet.chance() < loss) return;
    this.internet.after(delayMs + this.internet.chance() * jitterMs, () =>
      (this.#sinks.get(datagram.to.address) ?? this.gateway)?.deliver(datagram),
    );
  }
}

type Receive = (payload: Uint8Array, from: Endpoint, port: number) => void;

/** A machine with at most one address of each family. */
export class Host implements Sink {
  network: Network;
  addresses: readonly Ip[];
  readonly #sockets = new Map<number, Receive>();

  constructor(network: Network, addresses: readonly Ip[]) {
    this.network = network;
    this.addresses = addresses;
    for (const address of addresses) network.attach(address, this);
  }

  moveTo(network: Network, addresses: readonly Ip[]): void {
    for (const address of this.addresses) this.network.detach(address);
    this.network = network;
    this.addresses = addresses;
    for (const address of addresses) network.attach(address, this);
  }

  open(port: number, receive: Receive): void {
    this.#sockets.set(port, receive);
  }

  close(port: number): void {
    this.#sockets.delete(port);
  }

  get openPorts(): number {
    return this.#sockets.size;
  }

  deliver({ payload, from, to }: Datagram): void {
    this.#sockets.get(to.port)?.(payload, from, to.port);
  }

  /** False when the machine has no address of that family, as a socket would say. */
  send(port: number, to: Endpoint, payload: Uint8Array, whole = false): boolean {
    const address = this.addresses.find((one) => familyOf(one) === familyOf(to.address));
    if (address === undefined) return false;
    this.network.send({ from: { address, port }, to, payload, whole });
    return true;
  }
}

/** RFC 4787 §4.1 and §5: which destinations share a mapping, and from whom it lets something in. */
export type Dependence = "endpoint-independent" | "address-dependent" | "address-and-port-dependent";
export type RouterTraits = {
  /** Undefined: the router does not translate, it only filters. */
  readonly mapping: Dependence | undefined;
  readonly filtering: Dependence;
  readonly ports: "kept" | "random" | "sequential";
  readonly hairpin: boolean;
  readonly timeoutMs: Millis;
  readonly blocksUdp: boolean;
};

export const ORDINARY: RouterTraits = {
  mapping: "endpoint-independent",
  filtering: "address-and-port-dependent",
  ports: "kept",
  hairpin: false,
  timeoutMs: 60_000,
  blocksUdp: false,
};

type Mapping = { readonly inside: Endpoint; readonly outside: Endpoint; usedAt: Millis; readonly allowed: Set<string> };

/** A router between an inside network and an outside one: IPv4 is translated, IPv6 is let in by the same filter. */
export class Router implements Sink {
  readonly inside: Network;
  readonly #outside: Network;
  readonly #address: Ip;
  readonly #traits: RouterTraits;
  readonly #byInside = new Map<string, Mapping>();
  readonly #byPort = new Map<number, Mapping>();
  readonly #flows = new Map<Ip, Set<string>>();
  #nextPort = 20_000;
  /** Set to make every flow die without a word. */
  isDead = false;
  /** Set to let nothing in any more, and everything out. */
  isDeaf = false;

  constructor(inside: Network, outside: Network, address: Ip, traits: Partial<RouterTraits> = {}) {
    this.inside = inside;
    this.#outside = outside;
    this.#address = address;
    this.#traits = { ...ORDINARY, ...traits };
    inside.gateway = { deliver: (datagram) => this.#fromInside(datagram) };
    outside.attach(address, this);
  }

  /** The outside has to know the way to every IPv6 address inside. */
  announce(address: Ip): void {
    this.#outside.attach(address, this);
  }

  /** Forgets every mapping, as a reboot does. */
  reboot(): void {
    this.#byInside.clear();
    this.#byPort.clear();
    this.#flows.clear();
  }

  deliver(datagram: Datagram): void {
    if (this.isDead || this.isDeaf || this.#traits.blocksUdp) return;
    const isTranslated = familyOf(datagram.to.address) === 4 && this.#traits.mapping !== undefined;
    if (!isTranslated) {
      const allowed = this.#flows.get(datagram.to.address);
      if (allowed?.has(this.#filterKey(datagram.from)) === true) this.inside.send(datagram);
      return;
    }
    const mapping = this.#byPort.get(datagram.to.port);
    if (mapping === undefined || this.#isOld(mapping)) return;
    if (mapping.allowed.has(this.#filterKey(datagram.from))) this.inside.send({ ...datagram, to: mapping.inside });
  }

  #fromInside(datagram: Datagram): void {
    if (this.isDead || this.#traits.blocksUdp) return;
    const { from, to } = datagram;
    if (familyOf(from.address) === 6 || this.#traits.mapping === undefined) {
      const allowed = this.#flows.get(from.address) ?? new Set();
      this.#flows.set(from.address, allowed.add(this.#filterKey(to)));
      this.#outside.send(datagram);
      return;
    }
    const mapping = this.#mappingFor(from, to);
    mapping.usedAt = this.inside.internet.now;
    mapping.allowed.add(this.#filterKey(to));
    const translated = { ...datagram, from: mapping.outside };
    if (to.address !== this.#address) this.#outside.send(translated);
    else if (this.#traits.hairpin) this.deliver(translated);
  }

  #mappingFor(from: Endpoint, to: Endpoint): Mapping {
    const key = `${formatEndpoint(from)} ${keyOf(this.#traits.mapping, to)}`;
    const known = this.#byInside.get(key);
    if (known !== undefined && !this.#isOld(known)) return known;
    if (known !== undefined) this.#byPort.delete(known.outside.port);
    const outside = { address: this.#address, port: this.#choosePort(from.port) };
    const mapping: Mapping = { inside: from, outside, usedAt: this.inside.internet.now, allowed: new Set() };
    this.#byInside.set(key, mapping);
    this.#byPort.set(outside.port, mapping);
    return mapping;
  }

  #choosePort(wanted: number): number {
    const { ports } = this.#traits;
    if (ports === "kept" && !this.#byPort.has(wanted)) return wanted;
    if (ports === "sequential") return ++this.#nextPort;
    for (;;) {
      const port = 1_024 + Math.floor(this.inside.internet.chance() * (65_536 - 1_024));
      if (!this.#byPort.has(port)) return port;
    }
  }

  #isOld({ usedAt }: Mapping): boolean {
    return this.inside.internet.now - usedAt > this.#traits.timeoutMs;
  }

  #filterKey(remote: Endpoint): string {
    return keyOf(this.#traits.filtering, remote);
  }
}

function keyOf(dependence: Dependence | undefined, remote: Endpoint): string {
  if (dependence === undefined || dependence === "endpoint-independent") return "any";
  return dependence === "address-dependent" ? remote.address : formatEndpoint(remote);
}
