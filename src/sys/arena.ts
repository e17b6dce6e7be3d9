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

  constructor(libc: Libc, size: number) {
    const block = new ArrayBuffer(size);
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

/** All structures below are those of 64-bit little-endian Linux. */
export function putAddress(arena: Arena, at: number, address: Address): void {
  arena.view.setUint32(at, address >>> 0, true);
  arena.view.setUint32(at + 4, Math.floor(address / 0x1_0000_0000), true);
}
