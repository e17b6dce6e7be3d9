import type { Endpoint } from "../kit/endpoint.js";
import { type Arena, putAddress } from "./arena.js";
import { ERRNO, type Libc } from "./libc.js";
import { SOCKADDR_BYTES, type Sockaddrs } from "./sockaddr.js";

/**
 * Many datagrams in one system call. The tables lie in the arena and are written once:
 *
 *   mmsghdr  0 name  8 u32 name length  16 iovec  24 count 1  32 control  40 control length  48 u32 flags
 *            56 u32 bytes received or sent                                              64 bytes
 *   iovec    0 base  8 length                                                           16 bytes
 */
const MMSGHDR_BYTES = 64;
const IOVEC_BYTES = 16;
const NAME_BYTES = 32;
const MSG_DONTWAIT = 0x40;
const MSG_TRUNC = 0x20;

/** A slot takes the longest datagram there is. Not a power of two: slots shall not share cache sets. */
const RECEIVE_SLOT_BYTES = 65_536 + 192;
export const RECEIVE_BATCH = 16;
export const SEND_BATCH = 64;
const SEND_REGION_BYTES = 256 * 1024;

export const DATAGRAMS_ARENA_BYTES = RECEIVE_BATCH * (RECEIVE_SLOT_BYTES + 256) + SEND_REGION_BYTES + SEND_BATCH * 256;

type Table = { readonly headers: number; readonly vectors: number; readonly names: number };

function layTable(arena: Arena, count: number): Table {
  const headers = arena.take(count * MMSGHDR_BYTES);
  const vectors = arena.take(count * IOVEC_BYTES);
  const names = arena.take(count * NAME_BYTES);
  for (let i = 0; i < count; i++) {
    const header = headers + i * MMSGHDR_BYTES;
    putAddress(arena, header, arena.base + names + i * NAME_BYTES);
    putAddress(arena, header + 16, arena.base + vectors + i * IOVEC_BYTES);
    arena.view.setUint32(header + 24, 1, true);
  }
  return { headers, vectors, names };
}

/** Receives up to RECEIVE_BATCH datagrams at once, without waiting. */
export class DatagramReader {
  readonly #libc: Libc;
  readonly #arena: Arena;
  readonly #sockaddrs: Sockaddrs;
  readonly #table: Table;
  readonly #slots: number;

  constructor(libc: Libc, arena: Arena, sockaddrs: Sockaddrs) {
    this.#libc = libc;
    this.#arena = arena;
    this.#sockaddrs = sockaddrs;
    this.#table = layTable(arena, RECEIVE_BATCH);
    this.#slots = arena.take(RECEIVE_BATCH * RECEIVE_SLOT_BYTES);
    for (let i = 0; i < RECEIVE_BATCH; i++) {
      const vector = this.#table.vectors + i * IOVEC_BYTES;
      putAddress(arena, vector, arena.base + this.#slots + i * RECEIVE_SLOT_BYTES);
      arena.view.setUint32(vector + 8, RECEIVE_SLOT_BYTES, true);
    }
  }

  /** How many came; 0 when none waits. */
  receive(fd: number): number {
    const { view, base } = this.#arena;
    for (let i = 0; i < RECEIVE_BATCH; i++)
      view.setUint32(this.#table.headers + i * MMSGHDR_BYTES + 8, SOCKADDR_BYTES, true);
    const count = this.#libc.recvmmsg(fd, base + this.#table.headers, RECEIVE_BATCH, MSG_DONTWAIT, 0);
    return Math.max(count, 0);
  }

  /** A view, good until the next receive(); empty for a datagram that was cut off. */
  datagram(i: number): Uint8Array {
    const header = this.#table.headers + i * MMSGHDR_BYTES;
    const cut = (this.#arena.view.getUint32(header + 48, true) & MSG_TRUNC) !== 0;
    const length = cut ? 0 : this.#arena.view.getUint32(header + 56, true);
    const at = this.#slots + i * RECEIVE_SLOT_BYTES;
    return this.#arena.bytes.subarray(at, at + length);
  }

  from(i: number): Endpoint {
    return this.#sockaddrs.decode(this.#arena.bytes, this.#arena.view, this.#table.names + i * NAME_BYTES);
  }
}

/** Collects datagrams for one socket and sends them in one call: when SEND_BATCH are there, or on flush(). */
export class DatagramWriter {
  /** Datagrams the kernel refused: no route, a full queue, a firewall. */
  refused = 0;
  readonly #libc: Libc;
  readonly #arena: Arena;
  readonly #sockaddrs: Sockaddrs;
  readonly #table: Table;
  readonly #region: number;
  #count = 0;
  #used = 0;

  constructor(libc: Libc, arena: Arena, sockaddrs: Sockaddrs) {
    this.#libc = libc;
    this.#arena = arena;
    this.#sockaddrs = sockaddrs;
    this.#table = layTable(arena, SEND_BATCH);
    this.#region = arena.take(SEND_REGION_BYTES);
  }

  /** Copies the datagram. */
  add(fd: number, to: Endpoint, datagram: Uint8Array): void {
    if (this.#count === SEND_BATCH || this.#used + datagram.length > SEND_REGION_BYTES) this.flush(fd);
    const { bytes, view, base } = this.#arena;
    const at = this.#region + this.#used;
    bytes.set(datagram, at);
    const vector = this.#table.vectors + this.#count * IOVEC_BYTES;
    putAddress(this.#arena, vector, base + at);
    view.setUint32(vector + 8, datagram.length, true);
    const sockaddr = this.#sockaddrs.encode(to);
    bytes.set(sockaddr, this.#table.names + this.#count * NAME_BYTES);
    view.setUint32(this.#table.headers + this.#count * MMSGHDR_BYTES + 8, sockaddr.length, true);
    this.#count++;
    this.#used += (datagram.length + 15) & ~15;
  }

  /** The sockets wait for room themselves, for SEND_TIMEOUT_MS at most. */
  flush(fd: number): void {
    const headers = this.#arena.base + this.#table.headers;
    for (let sent = 0; sent < this.#count; ) {
      const count = this.#libc.sendmmsg(fd, headers + sent * MMSGHDR_BYTES, this.#count - sent, 0);
      if (count > 0) sent += count;
      else if (this.#libc.errno() !== ERRNO.EINTR) {
        // -1 speaks of the first datagram alone: the others may well have a route.
        this.refused++;
        sent++;
      }
    }
    this.#count = 0;
    this.#used = 0;
  }
}
