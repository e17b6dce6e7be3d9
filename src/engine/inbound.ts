import { datagramKind } from "../kit/datagramkind.js";
import type { Millis } from "../kit/time.js";
import type { Arena } from "../sys/arena.js";
import type { Received } from "../sys/controlmessages.js";
import { type DatagramReader, RECEIVE_BATCH } from "../sys/datagrams.js";
import type { Remote } from "../sys/sockaddr.js";
import type { Device, Effect } from "../wireguard/device.js";
import type { Keypair } from "../wireguard/keypairs.js";
import { TRANSPORT_BYTES_MIN, TRANSPORT_HEADER_BYTES, TYPE_TRANSPORT } from "../wireguard/messages.js";
import type { Peer } from "../wireguard/peer.js";
import type { ArenaAead } from "./arenaaead.js";
import { markInner } from "./ecn.js";
import type { Joiner } from "./joiner.js";

/** Batches per turn: no direction and no control message waits long for another. */
const BATCHES_MAX = 4;

export type InboundParts = {
  readonly arena: Arena;
  readonly reader: DatagramReader;
  readonly aead: ArenaAead;
  readonly device: Device;
  readonly joiner: Joiner;
  run(effects: readonly Effect[]): void;
  /** A datagram of ours that is no WireGuard message. */
  onProbe(datagram: Uint8Array, from: Remote): void;
};

/** From a socket to the TUN device: messages are opened where they lie, checked, and handed on in pieces. */
export class Inbound {
  readonly #parts: InboundParts;
  readonly #beside: Received = { segmentBytes: 0, trafficClass: 0, sourceAt: 0 };
  /** The session whose messages were opened last, and what is yet to be said to the protocol about them. */
  #session: { readonly peer: Peer; readonly keypair: Keypair } | undefined;
  #opened = 0;
  #withPacket = false;

  constructor(parts: InboundParts) {
    this.#parts = parts;
  }

  receive(fd: number, now: Millis): void {
    const { reader, joiner } = this.#parts;
    for (let batch = 0; batch < BATCHES_MAX; batch++) {
      const count = reader.receive(fd);
      for (let i = 0; i < count; i++) {
        const from = reader.describe(i, this.#beside);
        this.#take(reader.at(i), reader.length(i), from, now);
      }
      joiner.flush();
      if (count < RECEIVE_BATCH) return;
    }
  }

  /** One message of the socket: one datagram, or several of one sender and size. */
  #take(at: number, length: number, from: Remote, now: Millis): void {
    const { view } = this.#parts.arena;
    const each = this.#beside.segmentBytes === 0 ? length : this.#beside.segmentBytes;
    for (let done = 0; done < length; done += each) {
      const size = Math.min(each, length - done);
      if (size >= TRANSPORT_BYTES_MIN && view.getUint32(at + done, true) === TYPE_TRANSPORT)
        this.#open(at + done, size, from, now);
      else {
        this.#report(from, now);
        this.#takeOther(at + done, size, from, now);
      }
    }
    this.#report(from, now);
    // Rotation may have retired it.
    this.#session = undefined;
  }

  #takeOther(at: number, size: number, from: Remote, now: Millis): void {
    const { arena, device, run, onProbe } = this.#parts;
    const datagram = arena.bytes.subarray(at, at + size);
    const kind = datagramKind(datagram);
    if (kind === "probe" || kind === "stun") onProbe(datagram, from);
    else run(device.receive(datagram, from, now));
  }

  #open(at: number, size: number, from: Remote, now: Millis): void {
    const { arena, device, aead } = this.#parts;
    const { view } = arena;
    const receiver = view.getUint32(at + 4, true);
    if (this.#session?.keypair.localIndex !== receiver && !this.#turnTo(receiver, from, now)) return;
    const session = this.#session;
    if (session === undefined) return;
    const { keypair, peer } = session;
    const low = view.getUint32(at + 8, true);
    const high = view.getUint32(at + 12, true);
    const plain = at + TRANSPORT_HEADER_BYTES;
    const length = size - TRANSPORT_BYTES_MIN;
    if (!keypair.canReceive(now, high, low)) device.counters.sessionExpired++;
    else if (!aead.open(keypair.receiveKey, high, low, plain, length)) device.counters.forged++;
    else if (!keypair.window.accept(high, low)) device.counters.replayed++;
    else {
      this.#opened += size;
      if (length === 0) return;
      this.#withPacket = true;
      this.#deliver(peer, plain, length);
    }
  }

  /** From now on the messages are of the session of that index; false when it is none. */
  #turnTo(receiver: number, from: Remote, now: Millis): boolean {
    this.#report(from, now);
    const { device } = this.#parts;
    const entry = device.entry(receiver);
    if (entry?.keypair === undefined) {
      device.counters.unknownIndex++;
      return false;
    }
    this.#session = { peer: entry.peer, keypair: entry.keypair };
    return true;
  }

  #report(from: Remote, now: Millis): void {
    if (this.#opened === 0 || this.#session === undefined) return;
    const { device, run } = this.#parts;
    const [bytes, withPacket] = [this.#opened, this.#withPacket];
    this.#opened = 0;
    this.#withPacket = false;
    run(device.opened(this.#session, bytes, withPacket, from, now));
  }

  // §3: the source must be the peer's. What the buffer holds beyond the packet is padding.
  #deliver(peer: Peer, at: number, length: number): void {
    const { arena, device, joiner } = this.#parts;
    const { bytes, view } = arena;
    const version = (bytes[at] ?? 0) >> 4;
    const six = version === 6;
    const whole = six
      ? length >= 40 && 40 + view.getUint16(at + 4)
      : version === 4 && length >= 20 && (bytes[at] ?? 0) >= 0x45 && view.getUint16(at + 2);
    if (whole === false || whole > length || whole < 20) device.counters.innerMalformed++;
    else if (device.route(bytes, at + (six ? 8 : 12), six ? 6 : 4) !== peer) device.counters.sourceNotAllowed++;
    else {
      markInner(view, at, this.#beside.trafficClass);
      joiner.add(at, whole);
    }
  }
}
