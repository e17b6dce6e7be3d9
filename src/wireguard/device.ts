import { type KeyPair, keyPairOf } from "../kit/crypto.js";
import type { Endpoint } from "../kit/endpoint.js";
import { Failure } from "../kit/failure.js";
import type { Family } from "../kit/ip.js";
import { type Key, keyBytes, keyOf } from "../kit/key.js";
import type { Millis } from "../kit/time.js";
import { AllowedIps } from "./allowedips.js";
import { PACKET_BYTES_MAX, PEERS_MAX } from "./constants.js";
import { CookieJudge } from "./cookie.js";
import { type Counters, zeroCounters } from "./counters.js";
import type { Effect } from "./effect.js";
import { readInitiator } from "./handshake.js";
import { HandshakeBudget } from "./handshakebudget.js";
import { IndexTable } from "./indextable.js";
import type { PeerState, WantInterface } from "./interface.js";
import { readIpPacket } from "./ippacket.js";
import type { Keypair } from "./keypairs.js";
import {
  decodeMessage,
  encodeMessage,
  type Initiation,
  type Response,
  TYPE_COOKIE_REPLY,
  TYPE_INITIATION,
  TYPE_RESPONSE,
  TYPE_TRANSPORT,
} from "./messages.js";
import { type IndexEntry, Peer, type PeerSurroundings } from "./peer.js";
import { Timestamps } from "./tai64n.js";
import { nodeAead, type TransportAead } from "./transportaead.js";

export type { Effect } from "./effect.js";
export type { TransportAead } from "./transportaead.js";

export type DeviceParts = {
  readonly random: (length: number) => Uint8Array;
  /** The wall clock, for the timestamp of initiations alone; every other time is `now`, from a monotonic clock. */
  readonly wallMs: () => Millis;
  readonly aead?: TransportAead;
};

export type WantDevice = Pick<WantInterface, "privateKey" | "peers"> & Partial<Pick<WantInterface, "mtu">>;

type Identity = {
  readonly privateKey: Key;
  readonly pair: KeyPair;
  readonly publicKey: Key;
  readonly judge: CookieJudge;
};

/**
 * A WireGuard interface without a socket, a TUN device or a clock: datagrams, packets and time go in, effects come
 * out. The caller calls `tick` when `deadline` has come and carries the effects out in order.
 */
export class Device {
  readonly counters: Counters = zeroCounters();
  readonly #parts: DeviceParts;
  readonly #timestamps = new Timestamps();
  readonly #indices: IndexTable<IndexEntry>;
  readonly #peers = new Map<Key, Peer>();
  #identity: Identity | undefined;
  #allowedIps = new AllowedIps<Peer>();
  #mtu: number | undefined;
  #budget = new HandshakeBudget();
  /** Not later than the first peer's deadline; exact after `tick` and `configure`. */
  #deadline: Millis = Number.POSITIVE_INFINITY;

  constructor(parts: DeviceParts) {
    this.#parts = parts;
    this.#indices = new IndexTable(parts.random);
  }

  /**
   * Makes the device match; an equal value changes nothing and kept peers keep their sessions. A removed peer is cut
   * off here and now. A prefix that two peers name belongs to the later one. Throws a Failure for a value that no
   * device can be.
   */
  configure(want: WantDevice, now: Millis): Effect[] {
    if (want.peers.length > PEERS_MAX)
      throw new Failure("peers-too-many", `an interface has at most ${PEERS_MAX} peers, got ${want.peers.length}`);
    const out: Effect[] = [];
    const identity = this.#become(want.privateKey);
    this.#mtu = want.mtu;
    // Nobody is their own peer: a map of the whole network may name this device too.
    const wanted = new Map(
      want.peers.filter((peer) => peer.publicKey !== identity.publicKey).map((peer) => [peer.publicKey, peer]),
    );
    for (const [publicKey, peer] of this.#peers) if (!wanted.has(publicKey)) this.#remove(peer);
    const surroundings = this.#surroundings(identity.pair);
    const allowedIps = new AllowedIps<Peer>();
    for (const wantPeer of wanted.values()) {
      const peer = this.#peers.get(wantPeer.publicKey) ?? new Peer(wantPeer.publicKey, surroundings);
      this.#peers.set(peer.publicKey, peer);
      for (const cidr of wantPeer.allowedIps) allowedIps.insert(cidr, peer);
    }
    this.#allowedIps = allowedIps;
    for (const wantPeer of wanted.values()) this.#peers.get(wantPeer.publicKey)?.configure(wantPeer, now, out);
    this.#findDeadline();
    return out;
  }

  /** Sends to a peer's other endpoint from now on, as configure() would; a peer that is not there is passed over. */
  point(publicKey: Key, endpoint: Endpoint, now: Millis): Effect[] {
    const out: Effect[] = [];
    this.#peers.get(publicKey)?.point(endpoint, now, out);
    this.#findDeadline();
    return out;
  }

  /** A datagram from the socket. Whatever it holds, it is handled or counted as dropped. */
  receive(datagram: Uint8Array, from: Endpoint, now: Millis): Effect[] {
    const out: Effect[] = [];
    const message = decodeMessage(datagram);
    const identity = this.#identity;
    if (message === undefined || identity === undefined) {
      this.counters.malformed++;
      return out;
    }
    if (message.type === TYPE_INITIATION || message.type === TYPE_RESPONSE) {
      if (!this.#admit(identity, datagram, message, from, now, out)) return out;
      if (message.type === TYPE_INITIATION) this.#receiveInitiation(identity, message, from, now, out);
      else this.#receiveResponse(message, from, now, out);
      return out;
    }
    const entry = this.#indices.get(message.receiver);
    if (message.type === TYPE_COOKIE_REPLY && entry !== undefined) entry.peer.receiveCookieReply(message, now);
    else if (message.type === TYPE_TRANSPORT && entry?.keypair !== undefined) {
      entry.peer.receiveTransport(entry.keypair, message, from, now, out);
      this.#mind(entry.peer);
    } else this.counters.unknownIndex++;
    return out;
  }

  /** A packet from the TUN device, to the peer whose allowed-ips hold its destination (§3). */
  send(packet: Uint8Array, now: Millis): Effect[] {
    const out: Effect[] = [];
    const head = readIpPacket(packet);
    if (head === undefined || packet.length > PACKET_BYTES_MAX) {
      this.counters.packetMalformed++;
      return out;
    }
    const peer = this.#allowedIps.lookup(packet, head.destinationAt, head.family);
    if (peer === undefined) {
      this.counters.noPeer++;
      return out;
    }
    peer.send(packet, now, out);
    this.#mind(peer);
    return out;
  }

  /** Does what is due; early and late calls are harmless. */
  tick(now: Millis): Effect[] {
    const out: Effect[] = [];
    if (now < this.#deadline) return out;
    for (const peer of this.#peers.values()) if (now >= peer.timers.deadline) peer.tick(now, out);
    this.#findDeadline();
    return out;
  }

  /** When to call `tick` next, at the latest; undefined while nothing is pending. */
  get deadline(): Millis | undefined {
    return Number.isFinite(this.#deadline) ? this.#deadline : undefined;
  }

  peers(now: Millis): PeerState[] {
    return [...this.#peers.values()].map((peer) => peer.state(now));
  }

  // ── For an engine that opens and seals in memory of its own. It counts messages, marks the window, and says so. ──

  /** The session that a transport message names, and its peer. */
  entry(receiver: number): IndexEntry | undefined {
    return this.#indices.get(receiver);
  }

  /** The peer whose allowed-ips hold the address at `at`. */
  route(packet: Uint8Array, at: number, family: Family): Peer | undefined {
    return this.#allowedIps.lookup(packet, at, family);
  }

  /** Messages of one session were opened and accepted by its window; `withPacket`: not only keepalives. */
  opened(
    { peer, keypair }: { readonly peer: Peer; readonly keypair: Keypair },
    bytes: number,
    withPacket: boolean,
    from: Endpoint,
    now: Millis,
  ): Effect[] {
    const out: Effect[] = [];
    peer.authentic(keypair, bytes, withPacket, from, now, out);
    this.#mind(peer);
    return out;
  }

  /** Packets were sealed with the peer's outlet() and sent, its counter advanced for each. */
  sealed(peer: Peer, keypair: Keypair, sentBytes: number, now: Millis): Effect[] {
    const out: Effect[] = [];
    peer.sealed(keypair, sentBytes, true, now, out);
    this.#mind(peer);
    return out;
  }

  // §5.3: mac1 always; mac2 and a budget when strangers ask for too much.
  #admit(
    { judge }: Identity,
    datagram: Uint8Array,
    message: Initiation | Response,
    from: Endpoint,
    now: Millis,
    out: Effect[],
  ): boolean {
    if (!judge.mac1Valid(datagram)) {
      this.counters.mac1Invalid++;
      return false;
    }
    if (!this.#budget.underLoad(now)) return true;
    if (!judge.mac2Valid(datagram, from, now)) {
      if (!this.#budget.mayReply(from.address)) this.counters.cookieRepliesWithheld++;
      else {
        const reply = judge.reply(message, from, now, this.#parts.random);
        out.push({ kind: "send", to: from, datagram: encodeMessage(reply) });
        this.counters.cookieRepliesSent++;
      }
      return false;
    }
    if (this.#budget.admit(from.address, now)) return true;
    this.counters.handshakesOverBudget++;
    return false;
  }

  #receiveInitiation(identity: Identity, message: Initiation, from: Endpoint, now: Millis, out: Effect[]): void {
    const initiator = readInitiator(identity.pair, message);
    if (initiator === undefined) {
      this.counters.handshakesInvalid++;
      return;
    }
    const peer = this.#peers.get(keyOf(initiator.publicKey));
    if (peer === undefined) {
      this.counters.peerUnknown++;
      return;
    }
    peer.receiveInitiation(message, initiator.state, from, now, out);
    this.#mind(peer);
  }

  #receiveResponse(message: Response, from: Endpoint, now: Millis, out: Effect[]): void {
    const peer = this.#indices.get(message.receiver)?.peer;
    if (peer === undefined) {
      this.counters.unknownIndex++;
      return;
    }
    peer.receiveResponse(message, from, now, out);
    this.#mind(peer);
  }

  /** A new private key is a new device to everyone: no session of the old one survives. */
  #become(privateKey: Key): Identity {
    if (this.#identity?.privateKey === privateKey) return this.#identity;
    for (const peer of this.#peers.values()) this.#remove(peer);
    const pair = keyPairOf(keyBytes(privateKey));
    const publicKey = keyOf(pair.publicKey);
    this.#identity = { privateKey, pair, publicKey, judge: new CookieJudge(pair.publicKey) };
    return this.#identity;
  }

  #remove(peer: Peer): void {
    peer.remove();
    this.#peers.delete(peer.publicKey);
  }

  #surroundings(local: KeyPair): PeerSurroundings {
    const device = this;
    return {
      local,
      aead: this.#parts.aead ?? nodeAead,
      counters: this.counters,
      indices: this.#indices,
      get allowedIps() {
        return device.#allowedIps;
      },
      get mtu() {
        return device.#mtu;
      },
      random: this.#parts.random,
      timestamp: () => this.#timestamps.next(this.#parts.wallMs()),
    };
  }

  #mind(peer: Peer): void {
    this.#deadline = Math.min(this.#deadline, peer.timers.deadline);
  }

  #findDeadline(): void {
    this.#deadline = Number.POSITIVE_INFINITY;
    for (const peer of this.#peers.values()) this.#mind(peer);
  }
}
