import { type Arena, putAddress } from "../sys/arena.js";
import type { Libc } from "../sys/libc.js";
import { PROTOCOL_TCP, PROTOCOL_UDP, pseudoSum, type Sum, writeIp4Checksum } from "./checksums.js";
import { clearVnetHeader, GSO_TCP4, GSO_TCP6, GSO_UDP, VNET_HEADER_BYTES, writeVnetHeader } from "./vnetheader.js";

/**
 * Hands packets to the TUN device, those of one flow that follow each other as one piece (the reverse of Cutter):
 * one walk through the kernel instead of dozens. The kernel trusts the checksums of such a piece, so every packet's
 * own is verified before it joins. What cannot join is written as it is, behind what its flow has pending.
 *
 * Every packet must have VNET_HEADER_BYTES of free space before it, and stay where it is until flush().
 */
const FLOWS_MAX = 8;
const VECTOR_BYTES = 16;
const PACKETS_MAX = 64;
const PIECE_BYTES_MAX = 65_535;
const IP4_BYTES = 20;
const IP6_BYTES = 40;
const TCP_ACK = 0x10;
const TCP_PSH = 0x08;

export const JOINER_ARENA_BYTES = FLOWS_MAX * PACKETS_MAX * VECTOR_BYTES + 64;

/** Packets that were joined so far. */
type Piece = {
  /** The first packet, whose headers stand for all. */
  at: number;
  six: boolean;
  protocol: number;
  /** Bytes of all headers, and of the IP header alone. */
  headers: number;
  ip: number;
  /** Payload of every packet but the last. */
  each: number;
  total: number;
  count: number;
  nextSequence: number;
  /** The last packet was shorter, or asked to be pushed: nothing may follow it. */
  closed: boolean;
  vectors: number;
};

export class Joiner {
  /** Descriptor of the TUN device; without one, packets are dropped. */
  fd: number | undefined;
  tso = false;
  uso = false;
  readonly #libc: Pick<Libc, "write" | "writev">;
  readonly #arena: Arena;
  readonly #sum: Sum;
  readonly #pieces: Piece[];
  #open = 0;

  constructor(libc: Pick<Libc, "write" | "writev">, arena: Arena, sum: Sum) {
    this.#libc = libc;
    this.#arena = arena;
    this.#sum = sum;
    const vectors = arena.take(FLOWS_MAX * PACKETS_MAX * VECTOR_BYTES);
    this.#pieces = Array.from({ length: FLOWS_MAX }, (_, i) => ({
      at: 0,
      six: false,
      protocol: 0,
      headers: 0,
      ip: 0,
      each: 0,
      total: 0,
      count: 0,
      nextSequence: 0,
      closed: false,
      vectors: vectors + i * PACKETS_MAX * VECTOR_BYTES,
    }));
  }

  /** A whole IP packet of `length` bytes at `at`. */
  add(at: number, length: number): void {
    const { bytes } = this.#arena;
    const six = (bytes[at] ?? 0) >> 4 === 6;
    const ip = six ? IP6_BYTES : IP4_BYTES;
    const protocol = bytes[at + (six ? 6 : 9)] ?? 0;
    const plain = six ? length > IP6_BYTES : bytes[at] === 0x45 && this.#unfragmented(at);
    if (!plain || (protocol !== PROTOCOL_TCP && protocol !== PROTOCOL_UDP) || length < ip + 8) {
      this.#write(at, length);
      return;
    }
    const mate = this.#mate(at, six, ip, protocol);
    const headers = protocol === PROTOCOL_TCP ? this.#tcpHeaders(at, ip, length) : this.#udpHeaders(at, ip, length);
    if (headers === 0 || !this.#genuine(at, six, ip, protocol, length)) {
      if (mate !== undefined) this.#finish(mate);
      this.#write(at, length);
      return;
    }
    if (mate !== undefined) {
      if (this.#joins(mate, at, headers, length)) {
        this.#append(mate, at, headers, length);
        return;
      }
      this.#finish(mate);
    }
    this.#begin(at, six, ip, protocol, headers, length);
  }

  /** Writes everything that is pending. */
  flush(): void {
    for (let i = 0; i < this.#open; i++) {
      const piece = this.#pieces[i];
      if (piece !== undefined) this.#writePiece(piece);
    }
    this.#open = 0;
  }

  /** Nothing but "don't fragment" in the fragment word: only such packets keep their meaning when cut again. */
  #unfragmented(at: number): boolean {
    return this.#arena.view.getUint16(at + 6) === 0x4000;
  }

  /** Bytes of IP and TCP header when the segment may join: payload, and no flag but ACK and PSH; 0 otherwise. */
  #tcpHeaders(at: number, ip: number, length: number): number {
    const { bytes } = this.#arena;
    const headers = ip + ((bytes[at + ip + 12] ?? 0) >> 4) * 4;
    const flags = bytes[at + ip + 13] ?? 0;
    const fits = this.tso && headers >= ip + 20 && length > headers && (flags & ~TCP_PSH) === TCP_ACK;
    return fits ? headers : 0;
  }

  #udpHeaders(at: number, ip: number, length: number): number {
    const { view } = this.#arena;
    const fits = this.uso && view.getUint16(at + ip + 4) === length - ip && length > ip + 8;
    return fits && view.getUint16(at + ip + 6) !== 0 ? ip + 8 : 0;
  }

  #genuine(at: number, six: boolean, ip: number, protocol: number, length: number): boolean {
    if (!six && this.#sum(at, IP4_BYTES, 0) !== 0xffff) return false;
    const pseudo = pseudoSum(this.#sum, at, six, protocol, length - ip);
    return this.#sum(at + ip, length - ip, pseudo) === 0xffff;
  }

  /** The open piece of the packet's flow. */
  #mate(at: number, six: boolean, ip: number, protocol: number): Piece | undefined {
    const { view } = this.#arena;
    const ports = view.getUint32(at + ip);
    for (let i = 0; i < this.#open; i++) {
      const piece = this.#pieces[i];
      if (piece === undefined || piece.protocol !== protocol || piece.six !== six) continue;
      if (view.getUint32(piece.at + ip) !== ports) continue;
      const from = six ? 8 : 12;
      let word = from;
      const end = six ? 40 : 20;
      while (word < end && view.getUint32(piece.at + word) === view.getUint32(at + word)) word += 4;
      if (word === end) return piece;
    }
    return undefined;
  }

  #joins(piece: Piece, at: number, headers: number, length: number): boolean {
    const { bytes, view } = this.#arena;
    const payload = length - headers;
    if (piece.closed || piece.headers !== headers || payload > piece.each || piece.count === PACKETS_MAX) return false;
    if (piece.total + payload > PIECE_BYTES_MAX) return false;
    const { six, ip } = piece;
    // Traffic class, and for IPv4 the time to live; for IPv6 flow label and hop limit as well.
    const sameIp = six
      ? view.getUint32(piece.at) === view.getUint32(at) && bytes[piece.at + 7] === bytes[at + 7]
      : bytes[piece.at + 1] === bytes[at + 1] && bytes[piece.at + 8] === bytes[at + 8];
    if (!sameIp) return false;
    if (piece.protocol === PROTOCOL_UDP) return true;
    if (view.getUint32(at + ip + 4) !== piece.nextSequence) return false;
    // Acknowledged so far, window, and options.
    if (view.getUint32(piece.at + ip + 8) !== view.getUint32(at + ip + 8)) return false;
    if (view.getUint16(piece.at + ip + 14) !== view.getUint16(at + ip + 14)) return false;
    for (let i = ip + 20; i < headers; i += 4)
      if (view.getUint32(piece.at + i) !== view.getUint32(at + i)) return false;
    return true;
  }

  #begin(at: number, six: boolean, ip: number, protocol: number, headers: number, length: number): void {
    if (this.#open === FLOWS_MAX) this.flush();
    const piece = this.#pieces[this.#open++];
    if (piece === undefined) throw new Error("there are FLOWS_MAX pieces");
    const payload = length - headers;
    piece.at = at;
    piece.six = six;
    piece.protocol = protocol;
    piece.headers = headers;
    piece.ip = ip;
    piece.each = payload;
    piece.total = length;
    piece.count = 1;
    this.#follow(piece, at, payload);
    // The first vector takes the virtio header and the headers with it.
    this.#putVector(piece, 0, at - VNET_HEADER_BYTES, VNET_HEADER_BYTES + length);
  }

  #append(piece: Piece, at: number, headers: number, length: number): void {
    const payload = length - headers;
    this.#putVector(piece, piece.count++, at + headers, payload);
    piece.total += payload;
    this.#follow(piece, at, payload);
    if (piece.protocol === PROTOCOL_TCP && piece.closed) {
      const flags = piece.at + piece.ip + 13;
      const { bytes } = this.#arena;
      bytes[flags] = (bytes[flags] ?? 0) | ((bytes[at + piece.ip + 13] ?? 0) & TCP_PSH);
    }
  }

  #follow(piece: Piece, at: number, payload: number): void {
    const { bytes, view } = this.#arena;
    piece.closed = payload < piece.each;
    if (piece.protocol !== PROTOCOL_TCP) return;
    piece.nextSequence = (view.getUint32(at + piece.ip + 4) + payload) >>> 0;
    if (((bytes[at + piece.ip + 13] ?? 0) & TCP_PSH) !== 0) piece.closed = true;
  }

  /** Writes one piece before its turn; the others keep theirs. */
  #finish(piece: Piece): void {
    this.#writePiece(piece);
    const i = this.#pieces.indexOf(piece);
    const last = --this.#open;
    const other = this.#pieces[last];
    if (other === undefined) return;
    this.#pieces[i] = other;
    this.#pieces[last] = piece;
  }

  #writePiece(piece: Piece): void {
    if (piece.count === 1) {
      this.#write(piece.at, piece.total);
      return;
    }
    const { view, base } = this.#arena;
    const { at, six, ip, headers, total, protocol } = piece;
    const tcp = protocol === PROTOCOL_TCP;
    writeVnetHeader(view, at - VNET_HEADER_BYTES, {
      gsoType: tcp ? (six ? GSO_TCP6 : GSO_TCP4) : GSO_UDP,
      headerBytes: headers,
      segmentBytes: piece.each,
      checksumStart: ip,
      checksumOffset: tcp ? 16 : 6,
    });
    if (six) view.setUint16(at + 4, total - IP6_BYTES);
    else {
      view.setUint16(at + 2, total);
      writeIp4Checksum(view, this.#sum, at, IP4_BYTES);
    }
    if (!tcp) view.setUint16(at + ip + 4, total - ip);
    // The kernel goes on from the pseudo-header's sum.
    view.setUint16(at + ip + (tcp ? 16 : 6), pseudoSum(this.#sum, at, six, protocol, total - ip));
    if (this.fd !== undefined) this.#libc.writev(this.fd, base + piece.vectors, piece.count);
  }

  /** A full queue, or an interface that is down, loses the packet, as any network does. */
  #write(at: number, length: number): void {
    const { view, base } = this.#arena;
    const from = at - VNET_HEADER_BYTES;
    clearVnetHeader(view, from);
    if (this.fd !== undefined) this.#libc.write(this.fd, base + from, VNET_HEADER_BYTES + length);
  }

  #putVector(piece: Piece, i: number, at: number, length: number): void {
    const vector = piece.vectors + i * VECTOR_BYTES;
    putAddress(this.#arena, vector, this.#arena.base + at);
    this.#arena.view.setUint32(vector + 8, length, true);
  }
}
