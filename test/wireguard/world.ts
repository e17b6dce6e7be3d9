import assert from "node:assert/strict";
import { keyPairOf } from "../../src/kit/crypto.js";
import { type Endpoint, parseEndpoint } from "../../src/kit/endpoint.js";
import { type Cidr, familyOf, ipBytes, parseIp } from "../../src/kit/ip.js";
import { type Key, keyBytes, keyOf } from "../../src/kit/key.js";
import type { Millis } from "../../src/kit/time.js";
import { Device, type DeviceParts, type Effect } from "../../src/wireguard/device.js";
import type { WantPeer } from "../../src/wireguard/interface.js";
import type { Keypair } from "../../src/wireguard/keypairs.js";
import { decodeMessage } from "../../src/wireguard/messages.js";

/** A simulated Internet for WireGuard devices: one clock, seeded chance, and a network that loses what it is told to. */

/** Mulberry32: chance that can be replayed. */
export function chanceOf(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

export function bytesOf(chance: () => number): (length: number) => Uint8Array {
  return (length) => Uint8Array.from({ length }, () => Math.floor(chance() * 256));
}

/**
 * Chance in a stream for each length asked for, and with it for each purpose: 32 bytes are an ephemeral key (or the
 * cookies' secret), 24 a nonce, 4 an index, 2 jitter. Two parties that draw in another order still draw the same.
 */
export function chanceByLength(seed: number): (length: number) => Uint8Array {
  const streams = new Map<number, (length: number) => Uint8Array>();
  return (length) => {
    const stream = streams.get(length) ?? bytesOf(chanceOf(seed * 64 + length));
    streams.set(length, stream);
    return stream(length);
  };
}

export type Weather = { loss: number; duplicates: number; delayMs: readonly [number, number] };
export const CALM: Weather = { loss: 0, duplicates: 0, delayMs: [10, 10] };
/** For tests that count milliseconds: what is sent has arrived. */
export const INSTANT: Weather = { loss: 0, duplicates: 0, delayMs: [0, 0] };

export type Party = {
  readonly name: string;
  readonly device: Device;
  readonly privateKey: Key;
  readonly publicKey: Key;
  readonly delivered: Uint8Array[];
  endpoint: Endpoint;
};

type InFlight = { at: Millis; from: Endpoint; to: Endpoint; datagram: Uint8Array };

export class World {
  now: Millis = 1_000;
  /** What every jitter is, when the two bytes it is made of are not to be chance. */
  jitterMs: number | undefined;
  /** Moments at which something happened. */
  events = 0;
  weather: Weather;
  readonly chance: () => number;
  readonly parties: Party[] = [];
  /** Everything that was sent, delivered or not. */
  readonly sent: InFlight[] = [];
  /** Looks at every datagram before the weather does; false loses it. */
  passes: (datagram: Uint8Array, from: Party) => boolean = () => true;
  #inFlight: InFlight[] = [];
  readonly #indices = new Map<Device, Set<number>>();
  #looked = 0;

  readonly #make: (parts: DeviceParts) => Device;

  constructor(seed = 1, weather = CALM, make = (parts: DeviceParts) => new Device(parts)) {
    this.chance = chanceOf(seed);
    this.weather = weather;
    this.#make = make;
  }

  party(name: string, endpoint: string): Party {
    const chance = bytesOf(this.chance);
    const random = (length: number): Uint8Array => {
      const jitter = length === 2 ? this.jitterMs : undefined;
      return jitter === undefined ? chance(length) : Uint8Array.of(jitter & 0xff, jitter >> 8);
    };
    const pair = keyPairOf(random(32));
    const party: Party = {
      name,
      device: this.#make({ random, wallMs: () => 1_700_000_000_000 + this.now }),
      privateKey: keyOf(pair.privateKey),
      publicKey: keyOf(pair.publicKey),
      delivered: [],
      endpoint: parseEndpoint(endpoint),
    };
    this.parties.push(party);
    return party;
  }

  configure(party: Party, peers: readonly WantPeer[]): void {
    this.carry(party, party.device.configure({ privateKey: party.privateKey, peers, mtu: 1420 }, this.now));
  }

  send(party: Party, packet: Uint8Array): void {
    this.carry(party, party.device.send(packet, this.now));
  }

  carry(party: Party, effects: readonly Effect[]): void {
    for (const effect of effects) {
      if (effect.kind === "deliver") party.delivered.push(effect.packet);
      else this.#dispatch(party, effect.to, effect.datagram);
    }
  }

  #dispatch(party: Party, to: Endpoint, datagram: Uint8Array): void {
    const [least, most] = this.weather.delayMs;
    const copies = this.chance() < this.weather.duplicates ? 2 : 1;
    for (let i = 0; i < copies; i++) {
      const at = this.now + least + Math.floor(this.chance() * (most - least));
      const inFlight = { at, from: party.endpoint, to, datagram: datagram.slice() };
      if (i === 0) this.sent.push(inFlight);
      if (this.passes(datagram, party) && this.chance() >= this.weather.loss) this.#fly(inFlight);
    }
  }

  /** Keeps what flies in the order of its arrival; of two at the same moment the earlier sent comes first. */
  #fly(inFlight: InFlight): void {
    let place = this.#inFlight.length;
    while (place > 0 && (this.#inFlight[place - 1]?.at ?? 0) > inFlight.at) place--;
    this.#inFlight.splice(place, 0, inFlight);
  }

  /** How many of the indices that ever went over the wire a device knows: its sessions, and its handshake. */
  indicesOf(device: Device): number {
    for (; this.#looked < this.sent.length; this.#looked++) {
      const datagram = this.sent[this.#looked]?.datagram;
      const message = datagram === undefined ? undefined : decodeMessage(datagram);
      if (message?.type !== 1 && message?.type !== 2) continue;
      for (const party of this.parties) {
        const indices = this.#indices.get(party.device) ?? new Set();
        this.#indices.set(party.device, indices.add(message.sender));
      }
    }
    const indices = this.#indices.get(device) ?? new Set();
    for (const index of indices) if (device.entry(index) === undefined) indices.delete(index);
    return indices.size;
  }

  /** Lets time pass, from one event to the next. */
  run(duration: Millis): void {
    const until = this.now + duration;
    for (let events = 0; ; events++) {
      assert(events < 1_000_000, "the world comes to rest");
      let next = this.#inFlight[0]?.at ?? Infinity;
      for (const { device } of this.parties) next = Math.min(next, device.deadline ?? Infinity);
      if (next > until) break;
      this.events++;
      this.now = Math.max(this.now, next);
      const still = this.#inFlight.findIndex(({ at }) => at > this.now);
      const arrived = this.#inFlight.splice(0, still < 0 ? this.#inFlight.length : still);
      for (const { from, to, datagram } of arrived) {
        const party = this.parties.find(({ endpoint }) => sameEndpoint(endpoint, to));
        if (party !== undefined) this.carry(party, party.device.receive(datagram, from, this.now));
      }
      for (const party of this.parties) this.carry(party, party.device.tick(this.now));
    }
    this.now = until;
  }
}

const sameEndpoint = (left: Endpoint, right: Endpoint): boolean =>
  left.port === right.port && left.address === right.address;

export function peerOf(party: Party, allowedIps: readonly string[], more: Partial<WantPeer> = {}): WantPeer {
  return {
    publicKey: party.publicKey,
    endpoint: party.endpoint,
    allowedIps: allowedIps as readonly Cidr[],
    persistentKeepaliveSeconds: 0,
    ...more,
  };
}

/** Two devices that know each other: 10.0.0.1 and fd00::1 on the left, .2 and ::2 on the right. */
export function pairIn(world: World, more: Partial<WantPeer> = {}): { left: Party; right: Party } {
  const left = world.party("left", "192.0.2.1:51820");
  const right = world.party("right", "198.51.100.2:51820");
  world.configure(left, [peerOf(right, ["10.0.0.2/32", "fd00::2/128"], more)]);
  world.configure(right, [peerOf(left, ["10.0.0.1/32", "fd00::1/128"], more)]);
  return { left, right };
}

/** An IP packet of either family with `body` after its header. */
export function packet(source: string, destination: string, body: Uint8Array = new Uint8Array(8)): Uint8Array {
  const from = ipBytes(parseIp(source));
  const to = ipBytes(parseIp(destination));
  const header = new Uint8Array(from.length === 4 ? 20 : 40);
  const view = new DataView(header.buffer);
  view.setUint8(0, from.length === 4 ? 0x45 : 0x60);
  if (from.length === 4) view.setUint16(2, header.length + body.length);
  else view.setUint16(4, body.length);
  header.set(from, from.length === 4 ? 12 : 8);
  header.set(to, from.length === 4 ? 16 : 24);
  return Uint8Array.of(...header, ...body);
}

export function numbered(source: string, destination: string, number: number): Uint8Array {
  return packet(source, destination, Uint8Array.of(number >> 8, number & 0xff));
}

export const numberIn = (bytes: Uint8Array): number => ((bytes.at(-2) ?? 0) << 8) | (bytes.at(-1) ?? 0);

export const typesSent = (world: World, party: Party): number[] =>
  world.sent.filter(({ from }) => sameEndpoint(from, party.endpoint)).map(({ datagram }) => datagram[0] ?? 0);

export function presharedKeyOf(seed: number): Key {
  return keyOf(bytesOf(chanceOf(seed))(32));
}

/** The session with which a packet for this address would be sealed now. */
export function sessionOf({ device }: Party, destination: string, now: Millis): Keypair | undefined {
  const ip = parseIp(destination);
  return device.route(ipBytes(ip), 0, familyOf(ip))?.outlet(now);
}

export const publicBytes = (party: Party): Uint8Array => keyBytes(party.publicKey);
