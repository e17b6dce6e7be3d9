import { toHex } from "../kit/bytes.js";
import type { KeyPair } from "../kit/crypto.js";
import { type Endpoint, tryEndpoint } from "../kit/endpoint.js";
import { type Ip, tryIp } from "../kit/ip.js";
import type { Key } from "../kit/key.js";
import { MINUTE, type Millis, SECOND } from "../kit/time.js";
import { chooseHome, RelayLatencies, type RelayLatency } from "../nat/relaychoice.js";
import { RelayClient, type RelayState } from "../relay/client.js";
import type { Clock } from "../sys/clock.js";
import type { Log } from "../sys/log.js";
import type { Random } from "../sys/random.js";
import type { DialStream } from "../sys/streamdial.js";
import { ADMISSION_BYTES } from "../wire/admission.js";
import type { MapRelay } from "../wire/map.js";
import { RelayDialer, urlsOf } from "./relaydial.js";

export type RelaysParts = {
  readonly dialRelay: DialStream;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
};

export type RelaysEvents = {
  /** A view, good until the call returns. */
  onDatagram(from: Key, datagram: Uint8Array): void;
  onProbe(from: Key, datagram: Uint8Array): void;
  /** A relay can be used now, or not any more, or another is home. */
  onChange(): void;
};

/** A relay as `netcheck` shows it. */
export type RelayStanding = {
  readonly id: string;
  readonly name: string;
  /** The one in use while it is connected, otherwise the one for strangers. */
  readonly url: string;
  readonly home: boolean;
  readonly state: "connected" | "idle" | "failing";
  /** Why it fails, in words. */
  readonly reason: string | undefined;
  readonly roundTripMs: Millis | undefined;
};

/** What an agent remembers across restarts: peers look for it at the relay that was its home, and find it at once. */
export type RelayMemory = { readonly home: string | undefined; readonly admission: Uint8Array | undefined };

/**
 * STUN has answered by then, where it gets through: two tries and a far server's round trip. Who waits longer for the
 * nearest relay is called by nobody meanwhile.
 */
export const HOME_WAIT_MS: Millis = 300;

/** A relay that was needed and not there in so many looks, one a second, is not counted on. */
const MISSES_MAX = 5;
/** Relays that are dialed at a time to take the place of a home that is not there, the nearest. */
const SUCCESSORS_MAX = 3;
/** A home that was not there is not home again before, however near: what answers STUN may still refuse a connection. */
const LEFT_FOR_MS: Millis = 5 * MINUTE;

type Line = {
  readonly relay: MapRelay;
  readonly dialer: RelayDialer;
  readonly client: RelayClient;
  readonly stop: AbortController;
  state: RelayState;
  /** Looks in a row at which it was needed and not there. */
  misses: number;
};

/** The relays of the map: a connection kept to the one that is home, others while they are used. */
export class Relays {
  readonly #parts: RelaysParts;
  readonly #machineKey: KeyPair;
  readonly #events: RelaysEvents;
  readonly #latencies = new RelayLatencies();
  readonly #lines = new Map<string, Line>();
  #relays: readonly MapRelay[] = [];
  #admission: Uint8Array | undefined;
  #home: string | undefined;
  /** Of an earlier run. */
  #formerHome: string | undefined;
  /** STUN has answered, or had its time. */
  #located = false;
  #online = false;
  /** When each was left because it was not there. */
  readonly #left = new Map<string, Millis>();
  readonly #over = new AbortController();

  constructor(parts: RelaysParts, machineKey: KeyPair, events: RelaysEvents) {
    this.#parts = parts;
    this.#machineKey = machineKey;
    this.#events = events;
  }

  /** Where peers find this device. */
  get home(): string | undefined {
    return this.#home;
  }

  get list(): readonly MapRelay[] {
    return this.#relays;
  }

  get memory(): RelayMemory {
    return { home: this.#home, admission: this.#admission };
  }

  /** Goes on as an earlier run ended; the admission may have expired. */
  recall({ home, admission }: RelayMemory): void {
    this.#formerHome = home;
    if (admission !== undefined) this.admit(admission);
  }

  setRelays(relays: readonly MapRelay[]): void {
    if (this.#relays.length === 0 && relays.length > 0) void this.#waitForStun();
    const same = (one: MapRelay, other: MapRelay): boolean =>
      urlsOf(one).join() === urlsOf(other).join() && one.relayKey === other.relayKey;
    this.#relays = relays;
    for (const [id, line] of this.#lines)
      if (!relays.some((relay) => relay.id === id && same(relay, line.relay))) {
        line.stop.abort();
        this.#lines.delete(id);
      }
    for (const id of this.#left.keys()) if (!relays.some((relay) => relay.id === id)) this.#left.delete(id);
    this.#choose();
  }

  /** Whether the coordinator is there: while it is not, peers could not hear of another home. */
  setOnline(online: boolean): void {
    this.#online = online;
  }

  /** Looks which relays are there, and for another home when it is not; the caller calls once a second. */
  look(): void {
    const before = [...this.#lines.values()].map(isMissing).join();
    for (const line of this.#lines.values()) line.misses = line.client.look() ? line.misses + 1 : 0;
    const home = this.#home === undefined ? undefined : this.#lines.get(this.#home);
    if (this.#online && home !== undefined && isMissing(home)) this.#succeed(home.relay.id);
    if (before !== [...this.#lines.values()].map(isMissing).join()) this.#events.onChange();
  }

  /** Home is asked whether it is there: a peer could not get through to it. */
  doubt(): void {
    if (this.#home !== undefined) this.#lines.get(this.#home)?.client.ask();
  }

  /** A new admission. */
  admit(admission: Uint8Array): void {
    if (admission.length !== ADMISSION_BYTES) return;
    const before = this.#admission;
    this.#admission = admission;
    // A relay knows a connection by one WireGuard key: after another one it is begun anew.
    if (before !== undefined && wireguardKeyOf(before) !== wireguardKeyOf(admission)) {
      this.moved();
      return;
    }
    for (const { client } of this.#lines.values()) client.admitted();
    this.#events.onChange();
  }

  /** What a round of STUN has measured. */
  measured(latencies: readonly RelayLatency[]): void {
    for (const { relay, roundTripMs } of latencies) this.#latencies.add(relay, roundTripMs, this.#parts.clock.now());
    this.#located = true;
    this.#choose();
  }

  /** Whether a peer with this home can be sent to by its relay. */
  reaches(id: string | undefined): boolean {
    const relay = this.#relays.find((one) => one.id === id);
    if (relay === undefined || this.#valid() === undefined) return false;
    const line = this.#lines.get(relay.id);
    return line === undefined || (line.state.kind !== "waiting" && !isMissing(line));
  }

  nameOf(id: string | undefined): string | undefined {
    return this.#relays.find((relay) => relay.id === id)?.name;
  }

  send(id: string | undefined, to: Key, datagram: Uint8Array): void {
    this.#line(id)?.client.send(to, datagram);
  }

  probe(id: string | undefined, to: Key, datagram: Uint8Array): void {
    this.#line(id)?.client.probe(to, datagram);
  }

  isConnected(id: string | undefined): boolean {
    return id !== undefined && this.#lines.get(id)?.client.connected === true;
  }

  /** Has a relay that sees us at that address send a datagram to its port; false when none does. */
  dialBack({ address, port }: Endpoint, token: Uint8Array): boolean {
    for (const { client, state } of this.#lines.values())
      if (state.kind === "connected" && addressIn(state.address) === address && client.dialBack({ port, token }))
        return true;
    return false;
  }

  /** This machine is elsewhere: a connection of its old address is dead, and would take a minute to notice. */
  moved(): void {
    for (const { stop } of this.#lines.values()) stop.abort();
    this.#lines.clear();
    this.#left.clear();
    this.#line(this.#home);
    this.#events.onChange();
  }

  /** The network changed. */
  hurry(): void {
    for (const { client } of this.#lines.values()) client.hurry();
  }

  describe(): RelayStanding[] {
    const best = new Map(this.#latencies.best(this.#parts.clock.now()).map((one) => [one.relay, one.roundTripMs]));
    return this.#relays.map(({ id, name, url }) => {
      const { state, dialer } = this.#lines.get(id) ?? {};
      return {
        id,
        name,
        url: state?.kind === "connected" ? (dialer?.first ?? url) : url,
        home: id === this.#home,
        state: state?.kind === "connected" ? "connected" : state?.kind === "waiting" ? "failing" : "idle",
        reason: state?.kind === "waiting" ? state.reason : undefined,
        roundTripMs: best.get(id),
      };
    });
  }

  stop(): void {
    this.#over.abort();
    for (const { stop } of this.#lines.values()) stop.abort();
    this.#lines.clear();
  }

  async #waitForStun(): Promise<void> {
    const inTime = await this.#parts.clock.sleep(HOME_WAIT_MS, this.#over.signal).then(
      () => true,
      () => false,
    );
    if (!inTime || this.#located) return;
    this.#located = true;
    this.#choose();
  }

  #choose(): void {
    const { clock } = this.#parts;
    const isRelay = (id: string | undefined): boolean => this.#relays.some((relay) => relay.id === id);
    const known = [this.#home, this.#formerHome].find(isRelay);
    const isLeft = (id: string): boolean => clock.now() - (this.#left.get(id) ?? -LEFT_FOR_MS) < LEFT_FOR_MS;
    const latencies = this.#latencies.best(clock.now());
    const ours = latencies.filter(({ relay }) => isRelay(relay) && !isLeft(relay));
    // Where STUN does not get through, any relay is better than none; where it may yet, it is worth a moment.
    const any = this.#located || this.#relays.length === 1 ? this.#relays[0]?.id : undefined;
    this.#moveTo(chooseHome(ours, known, this.#online) ?? any);
    this.#events.onChange();
  }

  /** Only to a relay that is there: when this machine has lost its network, no relay is to blame. */
  #succeed(home: string): void {
    const now = this.#parts.clock.now();
    const latencies = new Map(this.#latencies.best(now).map((one) => [one.relay, one.roundTripMs]));
    // Those that were tried for nothing come last: however many of the near ones are gone, one further away has its turn.
    const rankOf = ({ id }: MapRelay): number =>
      isMissing(this.#lines.get(id)) ? Number.MAX_VALUE : (latencies.get(id) ?? Number.MAX_SAFE_INTEGER);
    const others = this.#relays.filter(({ id }) => id !== home).sort((a, b) => rankOf(a) - rankOf(b));
    const lines = others.slice(0, SUCCESSORS_MAX).flatMap(({ id }) => this.#line(id) ?? []);
    const found = lines.find(({ client, misses }) => client.connected && misses === 0);
    if (found === undefined) {
      for (const { client } of lines) client.prepare();
      return;
    }
    this.#parts.log.warn("the home relay is not there, another is home", { from: home, to: found.relay.id });
    this.#left.set(home, now);
    this.#moveTo(found.relay.id);
    this.#events.onChange();
  }

  #moveTo(home: string | undefined): void {
    if (home === this.#home) return;
    if (this.#home !== undefined) this.#lines.get(this.#home)?.client.setHome(false);
    this.#home = home;
    this.#line(home)?.client.setHome(true);
  }

  #line(id: string | undefined): Line | undefined {
    const relay = this.#relays.find((one) => one.id === id);
    if (relay === undefined) return undefined;
    return this.#lines.get(relay.id) ?? this.#open(relay);
  }

  #open(relay: MapRelay): Line {
    const { dialRelay, clock, random, log } = this.#parts;
    const dialer = new RelayDialer(dialRelay, clock, urlsOf(relay));
    const client = new RelayClient(
      { dial: dialer.dial, clock, random, log },
      {
        url: relay.url,
        relayKey: relay.relayKey,
        machineKey: this.#machineKey,
        admission: () => this.#valid(),
        home: relay.id === this.#home,
      },
      {
        onDatagram: (from, datagram) => this.#events.onDatagram(from, datagram),
        onProbe: (from, datagram) => this.#events.onProbe(from, datagram),
        onGone: () => undefined, // it may be on its way; the path finder finds out what it needs
        onRoundTrip: () => undefined, // of TLS over TCP: not to be compared with STUN's
        onState: (state) => {
          line.state = state;
          dialer.settle(state.kind === "connected");
          this.#events.onChange();
        },
      },
    );
    const line: Line = { relay, dialer, client, stop: new AbortController(), state: { kind: "idle" }, misses: 0 };
    this.#lines.set(relay.id, line);
    void client.run(line.stop.signal);
    return line;
  }

  /** The admission while it has not expired: a relay would refuse it, and the refusal would cost a connection. */
  #valid(): Uint8Array | undefined {
    const token = this.#admission;
    return token !== undefined && expiryOf(token) > this.#parts.clock.wall() ? token : undefined;
  }
}

const isMissing = (line: Line | undefined): boolean => line !== undefined && line.misses >= MISSES_MAX;

/** At byte 42 (wire/admission.ts). */
const wireguardKeyOf = (token: Uint8Array): string => toHex(token.subarray(42, 74));

/** Seconds since the epoch at byte 6 (wire/admission.ts). */
function expiryOf(token: Uint8Array): Millis {
  return new DataView(token.buffer, token.byteOffset, token.byteLength).getUint32(6) * SECOND;
}

/** A relay says where it sees a device as "address" or "address:port", IPv4 perhaps in IPv6's clothes. */
function addressIn(text: string): Ip | undefined {
  const bare = text.replace(/^::ffff:(?=\d+\.)/, "");
  return tryIp(bare) ?? tryEndpoint(text)?.address;
}
