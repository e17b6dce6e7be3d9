import type { KeyPair } from "../kit/crypto.js";
import { type Endpoint, formatEndpoint } from "../kit/endpoint.js";
import { type Key, keyBytes, keyOf } from "../kit/key.js";
import { type Millis, SECOND } from "../kit/time.js";
import type { AllowedIps } from "./allowedips.js";
import { ANSWER_MS, PADDING_BYTES, REKEY_JITTER_MS, REKEY_ON_RECEIVE_AFTER_MS, REKEY_TIMEOUT_MS } from "./constants.js";
import type { Counters } from "./counters.js";
import type { Effect } from "./effect.js";
import type { Symmetric } from "./handshake.js";
import type { IndexTable } from "./indextable.js";
import type { PeerState, WantPeer } from "./interface.js";
import { readIpPacket } from "./ippacket.js";
import { counterOf, type Keypair, Keypairs } from "./keypairs.js";
import {
  type CookieReply,
  INITIATION_BYTES,
  type Initiation,
  RESPONSE_BYTES,
  type Response,
  TRANSPORT_BYTES_MIN,
  TRANSPORT_HEADER_BYTES,
  type Transport,
  writeTransportHeader,
} from "./messages.js";
import { Negotiation } from "./negotiation.js";
import { Staged } from "./staged.js";
import { Timers } from "./timers.js";
import type { TransportAead } from "./transportaead.js";

/** What a receiver index stands for: a session, or (without keypair) a handshake on its way. */
export type IndexEntry = { readonly peer: Peer; readonly keypair: Keypair | undefined };

/** What a peer uses of its device. */
export type PeerSurroundings = {
  readonly local: KeyPair;
  readonly aead: TransportAead;
  readonly counters: Counters;
  readonly indices: IndexTable<IndexEntry>;
  readonly allowedIps: AllowedIps<Peer>;
  /** Undefined when not known: then packets are padded as the paper says, even past the tunnel's MTU. */
  readonly mtu: number | undefined;
  random(length: number): Uint8Array;
  timestamp(): Uint8Array;
};

const KEEPALIVE = new Uint8Array(0);
const LONG_AGO: Millis = Number.NEGATIVE_INFINITY;

/** The other end of a tunnel: its handshakes, sessions, timers, and the packets that wait for them (paper §5, §6). */
export class Peer {
  readonly publicKey: Key;
  readonly keypairs: Keypairs;
  readonly timers = new Timers();
  readonly #device: PeerSurroundings;
  readonly #negotiation: Negotiation;
  #wantedEndpoint: string | undefined;
  #endpoint: Endpoint | undefined;
  readonly #staged = new Staged();
  /** No handshake of ours begins before. */
  #handshakeFrom = LONG_AGO;
  #handshakeDoneAt: Millis | undefined;
  #receivedBytes = 0;
  #sentBytes = 0;

  constructor(publicKey: Key, device: PeerSurroundings) {
    this.publicKey = publicKey;
    this.keypairs = new Keypairs(keyOf(device.local.publicKey) < publicKey);
    this.#device = device;
    const { local, counters, random, timestamp, indices } = device;
    this.#negotiation = new Negotiation(keyBytes(publicKey), {
      ...{ local, counters, random, timestamp },
      indices: {
        take: () => indices.take({ peer: this, keypair: undefined }),
        bind: (index, keypair) => indices.replace(index, { peer: this, keypair }),
        free: (index) => indices.free(index),
      },
    });
  }

  state(now: Millis): PeerState {
    return {
      publicKey: this.publicKey,
      ...(this.#endpoint === undefined ? {} : { endpoint: this.#endpoint }),
      ...(this.#handshakeDoneAt === undefined ? {} : { lastHandshakeAgeMs: now - this.#handshakeDoneAt }),
      receivedBytes: this.#receivedBytes,
      sentBytes: this.#sentBytes,
    };
  }

  /** Only what differs from the last wanted value has an effect: a roamed endpoint outlives an equal configuration. */
  configure(want: WantPeer, now: Millis, out: Effect[]): void {
    this.#negotiation.setPresharedKey(want.presharedKey === undefined ? undefined : keyBytes(want.presharedKey));
    if (want.endpoint === undefined) this.#wantedEndpoint = undefined;
    else if (formatEndpoint(want.endpoint) !== this.#wantedEndpoint) this.point(want.endpoint, now, out);
    const persistentMs = want.persistentKeepaliveSeconds * SECOND;
    if (persistentMs === this.timers.persistentMs) return;
    this.timers.persistentMs = persistentMs;
    this.timers.keepMappingAlive(now);
    if (persistentMs > 0) this.#sendKeepalive(now, out);
  }

  /** From here on datagrams go there, wherever the peer was last heard from; an open handshake is tried there at once. */
  point(endpoint: Endpoint, now: Millis, out: Effect[]): void {
    const before = this.#endpoint && formatEndpoint(this.#endpoint);
    this.#wantedEndpoint = formatEndpoint(endpoint);
    this.#endpoint = endpoint;
    if (!this.timers.handshaking || before === this.#wantedEndpoint) return;
    this.#handshakeFrom = LONG_AGO;
    this.initiate(now, "moved", out);
  }

  /** Forgets every key and gives every index back; the peer is gone, or our own key changed. */
  remove(): void {
    this.#forgetKeys();
    this.#staged.clear();
    this.timers.stop();
  }

  // ── For an engine that seals and opens by itself ──

  get endpoint(): Endpoint | undefined {
    return this.#endpoint;
  }

  /** The session to seal with right now; undefined when packets must wait: they go by way of send(). */
  outlet(now: Millis): Keypair | undefined {
    const keypair = this.keypairs.current;
    const ready = keypair?.canSend(now) && this.#staged.length === 0 && this.#endpoint !== undefined;
    return ready ? keypair : undefined;
  }

  // ── Packets out ──

  send(packet: Uint8Array, now: Millis, out: Effect[]): void {
    const keypair = this.keypairs.current;
    if (keypair?.canSend(now) && this.#staged.length === 0) {
      this.#sendSealed(keypair, packet, now, out);
      return;
    }
    if (!this.#staged.push(packet)) this.#device.counters.stagedDropped++;
    this.#flush(now, out);
  }

  #flush(now: Millis, out: Effect[]): void {
    while (this.#staged.length > 0) {
      const keypair = this.keypairs.current;
      if (!keypair?.canSend(now)) {
        this.initiate(now, "wanted", out);
        return;
      }
      this.#sendSealed(keypair, this.#staged.shift(), now, out);
    }
  }

  #sendKeepalive(now: Millis, out: Effect[]): void {
    if (this.#staged.length > 0) this.#flush(now, out);
    else this.send(KEEPALIVE, now, out);
  }

  // §5.4.6: pad, seal, and count on. The padding stops at the tunnel's MTU, lest it make a fragment of the datagram.
  #sendSealed(keypair: Keypair, packet: Uint8Array, now: Millis, out: Effect[]): void {
    const padded = Math.ceil(packet.length / PADDING_BYTES) * PADDING_BYTES;
    const length = Math.min(padded, Math.max(packet.length, this.#device.mtu ?? padded));
    const datagram = new Uint8Array(TRANSPORT_BYTES_MIN + length);
    writeTransportHeader(datagram, keypair.remoteIndex, keypair.counterHigh, keypair.counterLow);
    datagram.set(packet, TRANSPORT_HEADER_BYTES);
    const plaintext = datagram.subarray(TRANSPORT_HEADER_BYTES, TRANSPORT_HEADER_BYTES + length);
    const counter = counterOf(keypair.counterHigh, keypair.counterLow);
    this.#device.aead.seal(keypair.sendKey, counter, plaintext, datagram, TRANSPORT_HEADER_BYTES);
    keypair.advance();
    const sentBytes = this.#transmit(datagram, out);
    this.sealed(keypair, sentBytes, packet.length > 0, now, out);
  }

  /** What follows transport messages that went out: timers, and a new handshake when their session grows old (§6.2). */
  sealed(keypair: Keypair, sentBytes: number, withPacket: boolean, now: Millis, out: Effect[]): void {
    this.#sentBytes += sentBytes;
    this.timers.authenticSent(now);
    if (withPacket && !this.timers.awaitsAnswer) this.timers.packetSent(now, this.#jitter());
    if (keypair.wantsRekey(now)) this.initiate(now, "wanted", out);
  }

  /** Bytes that go out: none without an endpoint. */
  #transmit(datagram: Uint8Array, out: Effect[]): number {
    if (this.#endpoint === undefined) {
      this.#device.counters.noEndpoint++;
      return 0;
    }
    out.push({ kind: "send", to: this.#endpoint, datagram });
    return datagram.length;
  }

  // ── Handshakes ──

  /** §6.4: sends an initiation, no more often than every REKEY_TIMEOUT_MS, and sees to it that one follows. */
  initiate(now: Millis, reason: "wanted" | "moved" | "retry", out: Effect[]): void {
    if (reason !== "retry") this.timers.attemptWanted(now);
    if (this.#endpoint === undefined) this.#device.counters.noEndpoint++;
    const from = this.#endpoint === undefined ? now + REKEY_TIMEOUT_MS : this.#handshakeFrom;
    if (now < from) {
      if (!this.timers.handshaking) this.timers.retryAt(from, this.#jitter());
      return;
    }
    const again = reason === "moved" ? this.#negotiation.again(now) : undefined;
    const datagram = again ?? this.#negotiation.initiate(now);
    if (datagram === undefined) return void this.#giveUp(now);
    this.#sendHandshake(datagram, now, out, again === undefined ? REKEY_TIMEOUT_MS : ANSWER_MS);
    this.timers.retryAt(this.#handshakeFrom, this.#jitter());
  }

  /** An initiation whose sealed static key is this peer's; `state` has read as far as that (§5.4.2). */
  receiveInitiation(message: Initiation, state: Symmetric, from: Endpoint, now: Millis, out: Effect[]): void {
    const answer = this.#negotiation.respond(message, state, now);
    if (answer === undefined) return;
    this.#retire(this.keypairs.addResponded(answer.keypair));
    this.timers.sessionMade(now);
    this.#heard(INITIATION_BYTES, from, now);
    this.#sendHandshake(answer.datagram, now, out);
  }

  receiveResponse(message: Response, from: Endpoint, now: Millis, out: Effect[]): void {
    const keypair = this.#negotiation.complete(message, now);
    if (keypair === undefined) return;
    this.#retire(this.keypairs.addInitiated(keypair));
    this.timers.sessionMade(now);
    this.#heard(RESPONSE_BYTES, from, now);
    this.#handshakeDone(now);
    // §5.1: the responder may not send before it has heard from us, so say something in any case.
    this.#sendKeepalive(now, out);
  }

  receiveCookieReply(message: CookieReply, now: Millis): void {
    this.#negotiation.takeCookie(message, now);
  }

  #sendHandshake(datagram: Uint8Array, now: Millis, out: Effect[], patience: Millis = REKEY_TIMEOUT_MS): void {
    this.#handshakeFrom = now + patience;
    this.timers.authenticSent(now);
    this.#sentBytes += this.#transmit(datagram, out);
  }

  #handshakeDone(now: Millis): void {
    this.#negotiation.drop();
    this.timers.handshakeDone();
    this.#handshakeDoneAt = now;
  }

  #giveUp(now: Millis): void {
    this.#negotiation.drop();
    this.#device.counters.stagedDropped += this.#staged.clear();
    this.timers.gaveUp(now);
  }

  // ── Packets in ──

  receiveTransport(keypair: Keypair, message: Transport, from: Endpoint, now: Millis, out: Effect[]): void {
    const { counters, aead } = this.#device;
    const { counterHigh, counterLow, sealed } = message;
    if (!keypair.canReceive(now, counterHigh, counterLow)) {
      counters.sessionExpired++;
      return;
    }
    const plaintext = new Uint8Array(sealed.length);
    const length = aead.open(keypair.receiveKey, counterOf(counterHigh, counterLow), sealed, plaintext, 0);
    if (length < 0) counters.forged++;
    else if (!keypair.window.accept(counterHigh, counterLow)) counters.replayed++;
    else this.opened(keypair, plaintext.subarray(0, length), from, now, out);
  }

  /** An authentic transport message: what it changes here, and its packet's delivery (§3). */
  opened(keypair: Keypair, plaintext: Uint8Array, from: Endpoint, now: Millis, out: Effect[]): void {
    this.authentic(keypair, TRANSPORT_BYTES_MIN + plaintext.length, plaintext.length > 0, from, now, out);
    if (plaintext.length === 0) return;
    const inner = readIpPacket(plaintext);
    if (inner === undefined) this.#device.counters.innerMalformed++;
    else if (this.#device.allowedIps.lookup(plaintext, inner.sourceAt, inner.family) !== this)
      this.#device.counters.sourceNotAllowed++;
    else out.push({ kind: "deliver", packet: plaintext.subarray(0, inner.lengthBytes) });
  }

  /** What follows authentic transport messages: roaming, rotation, timers (§2.1, §6). */
  authentic(keypair: Keypair, bytes: number, withPacket: boolean, from: Endpoint, now: Millis, out: Effect[]): void {
    this.#heard(bytes, from, now);
    if (keypair === this.keypairs.next) {
      this.#retire([this.keypairs.confirm()]);
      this.#handshakeDone(now);
      this.#flush(now, out);
    }
    this.#renewOnReceive(now, out);
    if (withPacket) this.timers.packetReceived(now);
  }

  // §2.1: the peer is where its last authentic message came from.
  #heard(bytes: number, from: Endpoint, now: Millis): void {
    this.#receivedBytes += bytes;
    this.#endpoint = from;
    this.timers.authenticReceived(now);
  }

  // §6.2: the initiator of a session near its end renews it on receiving, so that one-way traffic does not stop.
  #renewOnReceive(now: Millis, out: Effect[]): void {
    const keypair = this.keypairs.current;
    if (keypair === undefined || !keypair.isInitiator || keypair.renewedOnReceive) return;
    if (keypair.aged(now) || now - keypair.madeAt < REKEY_ON_RECEIVE_AFTER_MS) return;
    keypair.renewedOnReceive = true;
    this.initiate(now, "wanted", out);
  }

  // ── Time ──

  tick(now: Millis, out: Effect[]): void {
    for (const due of this.timers.due(now))
      switch (due) {
        case "retry":
        case "silence":
          this.initiate(now, due === "retry" ? "retry" : "wanted", out);
          break;
        case "give-up":
          this.#giveUp(now);
          break;
        case "keepalive":
        case "persistent":
          this.#sendKeepalive(now, out);
          break;
        case "zero":
          this.#forgetKeys();
          break;
      }
  }

  #forgetKeys(): void {
    this.#negotiation.drop();
    this.#retire(this.keypairs.clear());
  }

  #retire(keypairs: readonly (Keypair | undefined)[]): void {
    for (const keypair of keypairs) {
      if (keypair === undefined) continue;
      keypair.zero();
      this.#device.indices.free(keypair.localIndex);
    }
  }

  #jitter(): Millis {
    const [low = 0, high = 0] = this.#device.random(2);
    return ((high << 8) | low) % (REKEY_JITTER_MS + 1);
  }
}
