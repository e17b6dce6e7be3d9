import { type Arena, putAddress } from "./arena.js";
import { CONTROL_BYTES, type Received, readControl, writeControl } from "./controlmessages.js";
import { ERRNO, type Libc } from "./libc.js";
import { type Remote, type Remotes, SOCKADDR_BYTES } from "./sockaddr.js";

/**
 * Many datagrams in one system call, and many in one message of it: the kernel joins what arrives from one sender
 * (UDP_GRO) and cuts what leaves for one receiver (UDP_SEGMENT). The tables lie in the arena and are written once:
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

/** A slot takes the longest message there is. Not a power of two: slots shall not share cache sets. */
const RECEIVE_SLOT_BYTES = 65_536 + 192;
export const RECEIVE_BATCH = 32;
const SEND_BATCH = 64;
const SEND_REGION_BYTES = 4 * 65_536;
/** UDP_MAX_SEGMENTS of kernels before 6.9. */
const SEGMENTS_MAX = 64;
/** What one message may hold, below the longest datagram by the headers that each of its segments gets. */
const RUN_BYTES_MAX = 65_000;

const TABLE_ENTRY_BYTES = MMSGHDR_BYTES + IOVEC_BYTES + NAME_BYTES + CONTROL_BYTES;
export const READER_ARENA_BYTES = RECEIVE_BATCH * (RECEIVE_SLOT_BYTES + TABLE_ENTRY_BYTES);
export const WRITER_ARENA_BYTES = SEND_REGION_BYTES + SEND_BATCH * TABLE_ENTRY_BYTES;

/** Where in the arena a message's header lies, and the bytes it receives to or sends from: for who makes the call itself. */
export type Entry = { readonly header: number; readonly at: number };

type Table = { readonly headers: number; readonly vectors: number; readonly names: number; readonly controls: number };

function layTable(arena: Arena, count: number): Table {
  const headers = arena.take(count * MMSGHDR_BYTES);
  const vectors = arena.take(count * IOVEC_BYTES);
  const names = arena.take(count * NAME_BYTES);
  const controls = arena.take(count * CONTROL_BYTES);
  for (let i = 0; i < count; i++) {
    const header = headers + i * MMSGHDR_BYTES;
    putAddress(arena, header, arena.base + names + i * NAME_BYTES);
    putAddress(arena, header + 16, arena.base + vectors + i * IOVEC_BYTES);
    arena.view.setUint32(header + 24, 1, true);
    putAddress(arena, header + 32, arena.base + controls + i * CONTROL_BYTES);
  }
  return { headers, vectors, names, controls };
}

/** Receives up to RECEIVE_BATCH messages at once, without waiting. A message is one datagram or several joined. */
export class DatagramReader {
  readonly #libc: Libc;
  readonly #arena: Arena;
  readonly #remotes: Remotes;
  readonly #table: Table;
  readonly #slots: number;
  #used = RECEIVE_BATCH;

  constructor(libc: Libc, arena: Arena, remotes: Remotes) {
    this.#libc = libc;
    this.#arena = arena;
    this.#remotes = remotes;
    this.#table = layTable(arena, RECEIVE_BATCH);
    this.#slots = arena.take(RECEIVE_BATCH * RECEIVE_SLOT_BYTES);
    for (let i = 0; i < RECEIVE_BATCH; i++) {
      const vector = this.#table.vectors + i * IOVEC_BYTES;
      putAddress(arena, vector, arena.base + this.#slots + i * RECEIVE_SLOT_BYTES);
      arena.view.setUint32(vector + 8, RECEIVE_SLOT_BYTES, true);
    }
  }

  /** What the first message of a batch is received with. */
  get first(): Entry {
    return { header: this.#table.headers, at: this.#slots };
  }

  /** How many messages came; 0 when none waits. `ahead`: so many were received already, from the first entry on. */
  receive(fd: number, ahead = 0): number {
    if (ahead > 0) {
      this.#used = ahead;
      return ahead;
    }
    const { view, base } = this.#arena;
    // What the kernel wrote over by the last call.
    for (let i = 0; i < this.#used; i++) {
      const header = this.#table.headers + i * MMSGHDR_BYTES;
      view.setUint32(header + 8, SOCKADDR_BYTES, true);
      view.setUint32(header + 40, CONTROL_BYTES, true);
    }
    const count = this.#libc.recvmmsg(fd, base + this.#table.headers, RECEIVE_BATCH, MSG_DONTWAIT, 0);
    this.#used = Math.max(count, 0);
    return this.#used;
  }

  /** Where message `i` lies, good until the next receive(). */
  at(i: number): number {
    return this.#slots + i * RECEIVE_SLOT_BYTES;
  }

  /** Bytes of message `i`; 0 for one that was cut off. */
  length(i: number): number {
    const header = this.#table.headers + i * MMSGHDR_BYTES;
    const cut = (this.#arena.view.getUint32(header + 48, true) & MSG_TRUNC) !== 0;
    return cut ? 0 : this.#arena.view.getUint32(header + 56, true);
  }

  /** Fills in what came beside message `i`, and returns who sent it. */
  describe(i: number, into: Received): Remote {
    const length = this.#arena.view.getUint32(this.#table.headers + i * MMSGHDR_BYTES + 40, true);
    readControl(this.#arena, this.#table.controls + i * CONTROL_BYTES, length, into);
    const name = this.#table.names + i * NAME_BYTES;
    return this.#remotes.from(this.#arena.bytes, this.#arena.view, name, into.sourceAt);
  }
}

/** Datagrams of one size to one receiver, back to back in the region; only the last may be shorter. */
type Run = { remote: Remote | undefined; trafficClass: number; at: number; bytes: number; each: number; count: number };
/** What stands in a table's entry beside the place and length of the bytes. */
type Laid = { remote: Remote | undefined; source: Uint8Array | undefined; trafficClass: number; each: number };

/** Collects datagrams for one socket and sends them in one call: when SEND_BATCH runs are there, or on flush(). */
export class DatagramWriter {
  /** Descriptor of the socket; datagrams collected without one are dropped. */
  fd: number | undefined;
  /** Whether the kernel cuts messages. */
  segments = false;
  /** Datagrams the kernel refused: no route, a full queue, a firewall. */
  refused = 0;
  readonly #libc: Libc;
  readonly #arena: Arena;
  readonly #table: Table;
  readonly #region: number;
  readonly #runs: Run[];
  readonly #laid: Laid[];
  readonly #onSegmentsRefused: () => void;
  #count = 0;
  #used = 0;
  #last: Run | undefined;

  constructor(libc: Libc, arena: Arena, onSegmentsRefused: () => void) {
    this.#libc = libc;
    this.#arena = arena;
    this.#onSegmentsRefused = onSegmentsRefused;
    this.#table = layTable(arena, SEND_BATCH);
    this.#region = arena.take(SEND_REGION_BYTES);
    this.#runs = Array.from({ length: SEND_BATCH }, () => ({
      remote: undefined,
      trafficClass: 0,
      at: 0,
      bytes: 0,
      each: 0,
      count: 0,
    }));
    this.#laid = this.#runs.map(() => ({ remote: undefined, source: undefined, trafficClass: 0, each: 0 }));
  }

  /** Where the next datagrams, of at most `length` bytes together, are to be written back to back. */
  reserve(length: number): number {
    if (this.#used + length > SEND_REGION_BYTES) this.flush();
    return this.#region + this.#used;
  }

  /** The datagram of `length` bytes that lies at `at`, in the reserved place, goes to `remote`. */
  commit(remote: Remote, at: number, length: number, trafficClass: number): void {
    const last = this.#last;
    const joins =
      last !== undefined &&
      last.remote === remote &&
      last.trafficClass === trafficClass &&
      last.at + last.bytes === at &&
      length <= last.each &&
      last.count < SEGMENTS_MAX &&
      last.bytes + length <= RUN_BYTES_MAX;
    if (joins) {
      last.bytes += length;
      last.count++;
      if (length < last.each) this.#last = undefined;
    } else this.#last = this.#begin(remote, at, length, trafficClass);
    this.#used = at + length - this.#region;
  }

  /** Copies the datagram. */
  add(remote: Remote, datagram: Uint8Array, trafficClass = 0): void {
    const at = this.reserve(datagram.length);
    this.#arena.bytes.set(datagram, at);
    this.commit(remote, at, datagram.length, trafficClass);
  }

  /** What one datagram to `remote` is sent with, from here on to the next flush(). Nothing may be waiting for one now. */
  prepare(remote: Remote): Entry {
    this.#begin(remote, this.#region, 0, 0);
    this.#lay(0);
    this.#count = 0;
    return { header: this.#table.headers, at: this.#region };
  }

  /** The sockets wait for room themselves, for SEND_TIMEOUT_MS at most. */
  flush(): void {
    const count = this.#count;
    this.#count = 0;
    this.#used = 0;
    this.#last = undefined;
    const fd = this.fd;
    if (count === 0 || fd === undefined) return;
    for (let i = 0; i < count; i++) this.#lay(i);
    const headers = this.#arena.base + this.#table.headers;
    for (let sent = 0; sent < count; ) {
      const done = this.#libc.sendmmsg(fd, headers + sent * MMSGHDR_BYTES, count - sent, 0);
      if (done > 0) sent += done;
      else if (this.#libc.errno() !== ERRNO.EINTR) {
        // -1 speaks of the first message alone: the others may well have a route.
        this.#sendOtherwise(fd, sent);
        sent++;
      }
    }
  }

  /** The new run, when others may join it. */
  #begin(remote: Remote, at: number, length: number, trafficClass: number): Run | undefined {
    if (this.#count === SEND_BATCH) this.flush();
    const run = this.#runs[this.#count++];
    if (run === undefined) throw new Error("there are SEND_BATCH runs");
    run.remote = remote;
    run.trafficClass = trafficClass;
    run.at = at;
    run.bytes = length;
    run.each = length;
    run.count = 1;
    return this.segments ? run : undefined;
  }

  #lay(i: number): void {
    const run = this.#runs[i];
    if (run?.remote === undefined) return;
    const { view, bytes, base } = this.#arena;
    const header = this.#table.headers + i * MMSGHDR_BYTES;
    const vector = this.#table.vectors + i * IOVEC_BYTES;
    putAddress(this.#arena, vector, base + run.at);
    view.setUint32(vector + 8, run.bytes, true);
    const each = run.count > 1 ? run.each : 0;
    const { remote, trafficClass } = run;
    const laid = this.#laid[i];
    if (laid === undefined) return;
    // The kernel only reads it, and what goes where the one before went says the same.
    if (laid.remote === remote && laid.source === remote.source)
      if (laid.trafficClass === trafficClass && laid.each === each) return;
    bytes.set(remote.sockaddr, this.#table.names + i * NAME_BYTES);
    view.setUint32(header + 8, remote.sockaddr.length, true);
    const control = this.#table.controls + i * CONTROL_BYTES;
    view.setUint32(header + 40, writeControl(this.#arena, control, remote, trafficClass, each), true);
    laid.remote = remote;
    laid.source = remote.source;
    laid.trafficClass = trafficClass;
    laid.each = each;
  }

  /**
   * A refused run: its source address may be gone from this machine, or its datagrams too long for the path or the
   * device to be cut by the kernel (EIO: a device without checksum offload). Both are tried without.
   */
  #sendOtherwise(fd: number, i: number): void {
    const run = this.#runs[i];
    if (run?.remote === undefined) return;
    const errno = this.#libc.errno();
    if (errno !== ERRNO.EAGAIN && run.remote.source !== undefined) {
      run.remote.source = undefined;
      this.#lay(i);
      if (this.#sendOne(fd, i)) return;
    }
    if (run.count === 1 || errno === ERRNO.EAGAIN) {
      this.refused += run.count;
      return;
    }
    if (this.#libc.errno() === ERRNO.EIO) {
      this.segments = false;
      this.#onSegmentsRefused();
    }
    const { at, bytes, each } = run;
    run.count = 1;
    for (let sent = 0; sent < bytes; sent += each) {
      run.at = at + sent;
      run.bytes = Math.min(each, bytes - sent);
      this.#lay(i);
      if (!this.#sendOne(fd, i)) this.refused++;
    }
  }

  #sendOne(fd: number, i: number): boolean {
    const header = this.#arena.base + this.#table.headers + i * MMSGHDR_BYTES;
    for (;;) {
      if (this.#libc.sendmmsg(fd, header, 1, 0) > 0) return true;
      if (this.#libc.errno() !== ERRNO.EINTR) return false;
    }
  }
}
