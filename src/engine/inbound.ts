import { datagramKind } from "../kit/datagramkind.js";
import type { Millis } from "../kit/time.js";
import type { Arena } from "../sys/arena.js";
import type { Received } from "../sys/controlmessages.js";
import { type DatagramReader, RECEIVE_BATCH } from "../sys/datagrams.js";
import type { Remote } from "../sys/sockaddr.js";
import type { Device, Effect } from "../wireguard/device.js";
import type { Keypair } from "../wireguard/keypairs.js";
import { TRANSPORT_BYTES_MIN, TRANSPORT_HEADER_BYTES, TYPE_TRANSPORT } from "../wireguard/messages.js";
import type { IndexEntry, Peer } from "../wireguard/peer.js";
import type { ArenaAead } from "./arenaaead.js";
import { markInner } from "./ecn.js";
import type { Joiner } from "./joiner.js";
import { MessageRun, RUN_ARENA_BYTES } from "./messagerun.js";

export const INBOUND_ARENA_BYTES = RUN_ARENA_BYTES;

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

/** A peer, and one of its sessions. */
export type Session = { readonly peer: Peer; readonly keypair: Keypair };

/**
 * From a socket to the TUN device. Messages of one session and sender that follow each other are opened together,
 * where they lie; what they hold is checked, and handed on in pieces.
 */
export class Inbound {
  /** The session whose message the last batch was, when it was a single one that is none of a joined message's. */
  lone: Session | undefined;
  readonly #parts: InboundParts;
  readonly #beside: Received = { segmentBytes: 0, trafficClass: 0, sourceAt: 0 };
  /** Messages yet to be opened, and what they have in common. */
  readonly #run: MessageRun;
  #session: Session | undefined;
  #from: Remote | undefined;
  #trafficClass = 0;

  /** Who sent the last message. */
  get from(): Remote | undefined {
    return this.#from;
  }

  /** Of the outer packet of the last message. */
  get trafficClass(): number {
    return this.#trafficClass;
  }

  constructor(parts: InboundParts) {
    this.#parts = parts;
    this.#run = new MessageRun(parts.arena);
  }

  /** `ahead`: so many messages were received already. */
  receive(fd: number, now: Millis, ahead = 0): void {
    const { reader, joiner } = this.#parts;
    for (let batch = 0; batch < BATCHES_MAX; batch++) {
      const count = reader.receive(fd, batch === 0 ? ahead : 0);
      this.lone = undefined;
      for (let i = 0; i < count; i++) {
        const from = reader.describe(i, this.#beside);
        if (from !== this.#from || this.#beside.trafficClass !== this.#trafficClass) {
          this.#settle(now);
          this.#from = from;
          this.#trafficClass = this.#beside.trafficClass;
        }
        this.#take(reader.at(i), reader.length(i), from, now);
      }
      const session = this.#session;
      this.#settle(now);
      joiner.flush();
      if (count === 1 && this.#beside.segmentBytes === 0) this.lone = session;
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
        this.#collect(at + done, size, now);
      else {
        this.#settle(now);
        this.#takeOther(at + done, size, from, now);
      }
    }
  }

  #takeOther(at: number, size: number, from: Remote, now: Millis): void {
    const { arena, device, run, onProbe } = this.#parts;
    const datagram = arena.bytes.subarray(at, at + size);
    const kind = datagramKind(datagram);
    if (kind === "probe" || kind === "stun") onProbe(datagram, from);
    else run(device.receive(datagram, from, now));
  }

  #collect(at: number, size: number, now: Millis): void {
    const { arena, device } = this.#parts;
    const { view } = arena;
    const receiver = view.getUint32(at + 4, true);
    if (this.#session?.keypair.localIndex !== receiver) {
      this.#settle(now);
      this.#session = sessionOf(device.entry(receiver));
    } else if (this.#run.full) {
      const session = this.#session;
      this.#settle(now);
      this.#session = session;
    }
    const keypair = this.#session?.keypair;
    const low = view.getUint32(at + 8, true);
    const high = view.getUint32(at + 12, true);
    if (keypair === undefined) device.counters.unknownIndex++;
    else if (!keypair.canReceive(now, high, low)) device.counters.sessionExpired++;
    else this.#run.add(at + TRANSPORT_HEADER_BYTES, size - TRANSPORT_BYTES_MIN, high, low);
  }

  /** Opens what was collected. What it says to the protocol may end the session, so the next message asks again. */
  #settle(now: Millis): void {
    const session = this.#session;
    const from = this.#from;
    this.#session = undefined;
    const messages = this.#run;
    if (messages.count === 0 || session === undefined || from === undefined) return;
    const { aead, device, run } = this.#parts;
    const { keypair, peer } = session;
    aead.open(keypair.receiveKey, messages);
    let bytes = 0;
    let withPacket = false;
    for (let i = 0; i < messages.count; i++) {
      const length = messages.length(i);
      if (!messages.genuine(i)) device.counters.forged++;
      else if (!keypair.window.accept(messages.high(i), messages.low(i))) device.counters.replayed++;
      else {
        bytes += TRANSPORT_BYTES_MIN + length;
        if (length === 0) continue;
        withPacket = true;
        this.#deliver(peer, messages.at(i), length);
      }
    }
    messages.clear();
    if (bytes > 0) run(device.opened(session, bytes, withPacket, from, now));
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
      markInner(view, at, this.#trafficClass);
      joiner.add(at, whole);
    }
  }
}

function sessionOf(entry: IndexEntry | undefined): Session | undefined {
  return entry?.keypair === undefined ? undefined : { peer: entry.peer, keypair: entry.keypair };
}
