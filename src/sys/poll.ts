import { type Arena, putAddress } from "./arena.js";
import type { Libc } from "./libc.js";

const POLLIN = 1;
const POLLERR = 8;
const POLLHUP = 16;
const POLLNVAL = 32;
const POLLFD_BYTES = 8;
const EFD_CLOEXEC = 0o2000000;
const EFD_NONBLOCK = 0o4000;

const POLL_DESCRIPTORS_MAX = 8;
export const POLL_ARENA_BYTES = POLL_DESCRIPTORS_MAX * POLLFD_BYTES;

/** Waits for any of a few descriptors: struct pollfd is 0 i32 descriptor, 4 i16 wanted, 6 i16 found. */
export class PollSet {
  readonly #libc: Libc;
  readonly #arena: Arena;
  readonly #table: number;
  #count = 0;

  constructor(libc: Libc, arena: Arena) {
    this.#libc = libc;
    this.#arena = arena;
    this.#table = arena.take(POLL_ARENA_BYTES);
  }

  /** The descriptors, in the places ready() asks about; an undefined one never is. */
  watch(fds: readonly (number | undefined)[]): void {
    for (const [i, fd] of fds.entries()) {
      this.#arena.view.setInt32(this.#table + i * POLLFD_BYTES, fd ?? -1, true);
      this.#arena.view.setInt16(this.#table + i * POLLFD_BYTES + 4, POLLIN, true);
    }
    this.#count = fds.length;
  }

  /** A signal, an error and the deadline look alike: nothing is ready. */
  wait(timeoutMs: number): void {
    const found = this.#libc.poll(this.#arena.base + this.#table, this.#count, timeoutMs);
    if (found < 0)
      for (let i = 0; i < this.#count; i++) this.#arena.view.setInt16(this.#table + i * POLLFD_BYTES + 6, 0, true);
  }

  ready(place: number): boolean {
    return (this.#found(place) & POLLIN) !== 0;
  }

  /** The descriptor has an error, lost its other end, or is closed. */
  broken(place: number): boolean {
    return (this.#found(place) & (POLLERR | POLLHUP | POLLNVAL)) !== 0;
  }

  #found(place: number): number {
    return this.#arena.view.getInt16(this.#table + place * POLLFD_BYTES + 6, true);
  }
}

/** Wakes a thread that waits in poll(), from another one. */
export class Bell {
  readonly fd: number;
  readonly #libc: Libc;
  readonly #scratch: Arena;

  /** Without `fd` a new bell is made; with it, one made elsewhere in this process is used. */
  constructor(libc: Libc, scratch: Arena, fd?: number) {
    this.#libc = libc;
    this.#scratch = scratch;
    this.fd = fd ?? libc.eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (this.fd < 0) throw new Error("eventfd failed");
  }

  ring(): void {
    putAddress(this.#scratch, 0, 1);
    this.#libc.write(this.fd, this.#scratch.base, 8);
  }

  /** Back to silence, however often it rang. */
  hush(): void {
    this.#libc.read(this.fd, this.#scratch.base, 8);
  }

  close(): void {
    this.#libc.close(this.fd);
  }
}
