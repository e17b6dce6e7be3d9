import { assert } from "../kit/assert.js";
import type { Millis } from "../kit/time.js";
import type { Accelerator } from "../sys/accelerator.js";
import type { Arena } from "../sys/arena.js";
import type { DatagramWriter, Entry } from "../sys/datagrams.js";
import type { Remote } from "../sys/sockaddr.js";
import { REJECT_AFTER_MS } from "../wireguard/constants.js";
import type { Device, Effect } from "../wireguard/device.js";
import { TRANSPORT_HEADER_BYTES } from "../wireguard/messages.js";
import { CONGESTION_EXPERIENCED, ECN_MASK } from "./ecn.js";
import type { Inbound, Session } from "./inbound.js";

/**
 * What acceleratorlone.h may do by itself when a rest ends with a packet like the last one, and what is made of it
 * when it did. All that it goes by is laid down before the wait, and everything that it changes is told to the
 * protocol after it, which is when the answer has left. The table, u32 but for the keys:
 *
 *   0  armed       4  place of the socket   8  reader's header    12  its slot    16  sender's header   20  its bytes
 *  24  piece      28  index of ours        32  index of theirs    36  greatest counter received, low   40  high
 *  44  counter to send, low    48  high    52  MTU    56  longest rest in ms    60  key to open   92  key to seal
 * 124  received  128  bytes opened        132  their counter, low             136  sealed   140  bytes sent
 * 144  bytes of a piece that is left      148  a message
 */
const TABLE_BYTES = 168;
const KEYS_AT = 60;
const KEY_BYTES = 32;
const DONE_AT = 124;
export const LONE_ARENA_BYTES = TABLE_BYTES + 16;

export type LonePacketParts = {
  readonly arena: Arena;
  readonly accelerator: Accelerator;
  readonly device: Device;
  readonly inbound: Inbound;
  /** What messages are received with. */
  readonly reader: Entry;
  /** Where a piece belongs that is left to others. */
  readonly piece: number;
  /** The writer for a remote's family. */
  writerFor(remote: Remote): DatagramWriter;
  run(effects: readonly Effect[]): void;
};

export class LonePacket {
  /** Messages that the last wait received and left to others: 1 or 0. */
  received = 0;
  /** Bytes of a piece that it read and left to others. */
  left = 0;
  readonly #parts: LonePacketParts;
  readonly #table: number;
  /** Whose keys stand in the table; undefined when it is not armed. */
  #session: Session | undefined;
  #from: Remote | undefined;

  constructor(parts: LonePacketParts) {
    this.#parts = parts;
    this.#table = parts.arena.take(TABLE_BYTES);
    this.#put(8, parts.reader.header);
    this.#put(12, parts.reader.at);
    this.#put(24, parts.piece);
  }

  /** poll(2). */
  readonly poll = (fds: number, count: number, timeoutMs: number): number =>
    this.#parts.accelerator.wait(this.#table, fds, count, timeoutMs);

  /** Before the wait: lays down what a packet must be like. `placeOf` is a socket's among the descriptors. */
  arm(now: Millis, mtu: number, placeOf: (remote: Remote) => number): void {
    const { inbound, writerFor } = this.#parts;
    const session = inbound.lone;
    const from = inbound.from;
    if (session === undefined || from === undefined || !this.#mayRepeat(session, from, now)) {
      this.disarm();
      return;
    }
    const { keypair } = session;
    if (keypair !== this.#session?.keypair) {
      const { bytes } = this.#parts.arena;
      bytes.set(keypair.receiveKey, this.#table + KEYS_AT);
      bytes.set(keypair.sendKey, this.#table + KEYS_AT + KEY_BYTES);
      this.#put(28, keypair.localIndex);
      this.#put(32, keypair.remoteIndex);
    }
    this.#session = session;
    this.#from = from;
    const sender = writerFor(from).prepare(from);
    this.#put(4, placeOf(from));
    this.#put(16, sender.header);
    this.#put(20, sender.at);
    this.#put(36, keypair.window.greatestLow);
    this.#put(40, keypair.window.greatestHigh);
    this.#put(44, keypair.counterLow);
    this.#put(48, keypair.counterHigh);
    this.#put(52, mtu);
    this.#put(56, Math.max(0, Math.floor(keypair.madeAt + REJECT_AFTER_MS - now)));
    this.#put(0, 1);
  }

  /** Nothing is taken any more, and no key is kept. */
  disarm(): void {
    if (this.#session === undefined) return;
    const { bytes } = this.#parts.arena;
    this.#session = undefined;
    this.#put(0, 0);
    for (let i = 0; i < 2 * KEY_BYTES; i++) bytes[this.#table + KEYS_AT + i] = 0;
  }

  /** After the wait: tells the protocol what was done; true when anything was. */
  account(now: Millis): boolean {
    const session = this.#session;
    const from = this.#from;
    this.received = this.left = 0;
    if (session === undefined || from === undefined) return false;
    const { device, run } = this.#parts;
    const { peer, keypair } = session;
    this.received = this.#done(0);
    this.left = this.#done(20);
    const [opened, sealed, sent] = [this.#done(4), this.#done(12), this.#done(16)];
    if (opened > 0) {
      const { window } = keypair;
      assert(window.accept(window.greatestHigh, this.#done(8)), "a counter beyond the greatest is new");
      run(device.opened(session, opened, true, from, now));
    }
    if (sealed > 0) keypair.advance();
    if (sent > 0) run(device.sealed(peer, keypair, sent, now));
    return opened > 0 || sent > 0;
  }

  /**
   * Whether the peer may send such a packet again, and be sent one, for no other reasons than those the table holds:
   * the session sends, the peer's messages come from there, the packet's source is the peer's (§3) and is not where
   * the datagrams themselves go, and there is no mark of congestion to hand on.
   */
  #mayRepeat({ peer, keypair }: Session, from: Remote, now: Millis): boolean {
    const { arena, device, inbound, reader, writerFor } = this.#parts;
    const { bytes } = arena;
    const packet = reader.at + TRANSPORT_HEADER_BYTES;
    const six = (bytes[packet] ?? 0) >> 4 === 6;
    const source = packet + (six ? 8 : 12);
    if (peer.outlet(now) !== keypair || peer.endpoint !== from || writerFor(from).fd === undefined) return false;
    if ((inbound.trafficClass & ECN_MASK) === CONGESTION_EXPERIENCED) return false;
    if (device.route(bytes, source, six ? 6 : 4) !== peer) return false;
    if (six !== (from.family === 6)) return true;
    const [at, size] = six ? [8, 16] : [4, 4];
    for (let i = 0; i < size; i++) if (bytes[source + i] !== from.sockaddr[at + i]) return true;
    return false;
  }

  #put(at: number, value: number): void {
    this.#parts.arena.view.setUint32(this.#table + at, value, true);
  }

  #done(at: number): number {
    return this.#parts.arena.view.getUint32(this.#table + DONE_AT + at, true);
  }
}
