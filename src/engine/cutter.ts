import type { Arena } from "../sys/arena.js";
import { fold, PROTOCOL_TCP, PROTOCOL_UDP, pseudoSum, type Sum, writeIp4Checksum } from "./checksums.js";
import { GSO_NONE, GSO_TCP4, GSO_TCP6, GSO_UDP, VNET_NEEDS_CHECKSUM } from "./vnetheader.js";

const TCP_FIN_PSH = 0x09;
const TCP_CWR = 0x80;
/** Copied in place: after a rest, a call of the JavaScript engine's own costs microseconds that this does not. */
const SHORT_BYTES = 128;

/**
 * Cuts what the kernel hands over in one piece into the packets it stands for: TCP segments with their own sequence
 * numbers and flags (RFC 9293), UDP datagrams, each with its lengths and checksums. A packet that is no such piece is
 * one segment of itself.
 */
export class Cutter {
  /** How many packets it is. */
  count = 0;
  readonly #arena: Arena;
  readonly #sum: Sum;
  #at = 0;
  #length = 0;
  #six = false;
  #protocol = 0;
  /** Where the transport header begins, and where the payload does, from the packet's start. */
  #transport = 0;
  #headers = 0;
  #each = 0;
  #sequence = 0;
  #identification = 0;
  #checksumAt = -1;
  #pseudo = 0;

  constructor(arena: Arena, sum: Sum) {
    this.#arena = arena;
    this.#sum = sum;
  }

  /** Takes the packet of `length` bytes at `at`, described by the header at `vnetAt`; false when they do not fit together. */
  take(vnetAt: number, at: number, length: number): boolean {
    const { bytes, view } = this.#arena;
    const gsoType = view.getUint8(vnetAt + 1);
    const start = view.getUint16(vnetAt + 6, true);
    const offset = view.getUint16(vnetAt + 8, true);
    const needsChecksum = (view.getUint8(vnetAt) & VNET_NEEDS_CHECKSUM) !== 0;
    this.#at = at;
    this.#length = length;
    this.#six = (bytes[at] ?? 0) >> 4 === 6;
    this.count = 1;
    if (gsoType === GSO_NONE) {
      this.#each = 0;
      this.#transport = start;
      this.#checksumAt = needsChecksum ? start + offset : -1;
      return !needsChecksum || start + offset + 2 <= length;
    }
    const each = view.getUint16(vnetAt + 4, true);
    const tcp = gsoType === (this.#six ? GSO_TCP6 : GSO_TCP4);
    if ((!tcp && gsoType !== GSO_UDP) || !needsChecksum || each === 0 || start < 20) return false;
    const transportBytes = tcp ? ((bytes[at + start + 12] ?? 0) >> 4) * 4 : 8;
    this.#transport = start;
    this.#headers = start + transportBytes;
    this.#each = each;
    if (transportBytes < 8 || this.#headers >= length) return false;
    this.count = Math.ceil((length - this.#headers) / each);
    this.#protocol = tcp ? PROTOCOL_TCP : PROTOCOL_UDP;
    this.#checksumAt = start + offset;
    this.#pseudo = pseudoSum(this.#sum, at, this.#six, this.#protocol, 0);
    this.#sequence = view.getUint32(at + start + 4);
    this.#identification = this.#six ? 0 : view.getUint16(at + 4);
    return true;
  }

  /** The longest that write() writes. */
  get bytesMax(): number {
    return this.#each === 0 ? this.#length : Math.min(this.#headers + this.#each, this.#length);
  }

  /** Writes packet `i` to `into` and returns its length. */
  write(i: number, into: number): number {
    const { bytes, view } = this.#arena;
    const at = this.#at;
    if (this.#each === 0) {
      if (this.#length <= SHORT_BYTES) for (let i = 0; i < this.#length; i++) bytes[into + i] = bytes[at + i] ?? 0;
      else bytes.copyWithin(into, at, at + this.#length);
      if (this.#checksumAt >= 0) this.#complete(into);
      return this.#length;
    }
    const headers = this.#headers;
    const done = i * this.#each;
    const payload = Math.min(this.#each, this.#length - headers - done);
    const length = headers + payload;
    const transport = into + this.#transport;
    bytes.copyWithin(into, at, at + headers);
    bytes.copyWithin(into + headers, at + headers + done, at + headers + done + payload);
    if (this.#six) view.setUint16(into + 4, length - 40);
    else {
      view.setUint16(into + 2, length);
      view.setUint16(into + 4, (this.#identification + i) & 0xffff);
      writeIp4Checksum(view, this.#sum, into, (view.getUint8(into) & 15) * 4);
    }
    if (this.#protocol === PROTOCOL_TCP) {
      view.setUint32(transport + 4, (this.#sequence + done) >>> 0);
      // RFC 3168 §6.1.2: the first segment alone says that the window was reduced.
      const without = (i === this.count - 1 ? 0 : TCP_FIN_PSH) | (i === 0 ? 0 : TCP_CWR);
      view.setUint8(transport + 13, view.getUint8(transport + 13) & ~without);
    } else view.setUint16(transport + 4, length - this.#transport);
    view.setUint16(into + this.#checksumAt, 0);
    const transportLength = length - this.#transport;
    const sum = this.#sum(transport, transportLength, fold(this.#pseudo + transportLength));
    this.#writeChecksum(into + this.#checksumAt, sum);
    return length;
  }

  /** The kernel has put the pseudo-header's sum where the checksum belongs. */
  #complete(into: number): void {
    const start = into + this.#transport;
    this.#writeChecksum(into + this.#checksumAt, this.#sum(start, this.#length - this.#transport, 0));
  }

  /** RFC 768: a UDP checksum of zero would say that there is none; all ones mean the same number. */
  #writeChecksum(at: number, sum: number): void {
    const checksum = 0xffff ^ sum;
    this.#arena.view.setUint16(at, checksum === 0 ? 0xffff : checksum);
  }
}
