import type { Address, Libc } from "./libc.js";

/**
 * Memory that system calls work on: one block that never moves, its address taken once. Handed out in order and
 * never given back.
 */
export class Arena {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly base: Address;
  #used = 0;

  /** `backing` is a size, or a WebAssembly memory of fixed size, so that a module can work on the same bytes. */
  constructor(libc: Libc, backing: number | WebAssembly.Memory) {
    const block = typeof backing === "number" ? new ArrayBuffer(backing) : backing.buffer;
    this.bytes = new Uint8Array(block);
    this.view = new DataView(block);
    // User space ends below 2^47 (2^56 with five-level tables, only on request): exact in a double.
    this.base = Number(libc.koffi.address(this.bytes));
  }

  /** The offset of a fresh zeroed piece, aligned to 16 bytes. */
  take(size: number): number {
    const at = this.#used;
    this.#used += (size + 15) & ~15;
    if (this.#used > this.bytes.length) throw new Error(`the arena of ${this.bytes.length} bytes is used up`);
    return at;
  }
}

/** The unit of a WebAssembly memory's size. */
const PAGE_BYTES = 65_536;

/** A memory that can hold `size` bytes and never grows. */
export function fixedMemory(size: number): WebAssembly.Memory {
  const pages = Math.ceil(size / PAGE_BYTES);
  return new WebAssembly.Memory({ initial: pages, maximum: pages });
}

/** All structures below are those of 64-bit little-endian Linux. */
export function putAddress(arena: Arena, at: number, address: Address): void {
  arena.view.setUint32(at, address >>> 0, true);
  arena.view.setUint32(at + 4, Math.floor(address / 0x1_0000_0000), true);
}
