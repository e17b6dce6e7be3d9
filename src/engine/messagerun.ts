import type { Arena } from "../sys/arena.js";

/**
 * Transport messages of one session, to be sealed or opened together. The table lies in the arena, u32 each:
 *
 *   0  where the plaintext or ciphertext is   4  its length, without tag   8  counter, low half
 *  12  counter, high half                    16  1 when it was opened and is genuine
 */
export const RUN_MESSAGES_MAX = 64;
const ENTRY_BYTES = 20;
export const RUN_ARENA_BYTES = RUN_MESSAGES_MAX * ENTRY_BYTES;

export class MessageRun {
  /** Where the table lies in the arena. */
  readonly table: number;
  count = 0;
  readonly #view: DataView;

  constructor(arena: Arena) {
    this.table = arena.take(RUN_ARENA_BYTES);
    this.#view = arena.view;
  }

  get full(): boolean {
    return this.count === RUN_MESSAGES_MAX;
  }

  add(at: number, length: number, high: number, low: number): void {
    const entry = this.table + this.count++ * ENTRY_BYTES;
    this.#view.setUint32(entry, at, true);
    this.#view.setUint32(entry + 4, length, true);
    this.#view.setUint32(entry + 8, low, true);
    this.#view.setUint32(entry + 12, high, true);
  }

  at(i: number): number {
    return this.#view.getUint32(this.table + i * ENTRY_BYTES, true);
  }

  length(i: number): number {
    return this.#view.getUint32(this.table + i * ENTRY_BYTES + 4, true);
  }

  low(i: number): number {
    return this.#view.getUint32(this.table + i * ENTRY_BYTES + 8, true);
  }

  high(i: number): number {
    return this.#view.getUint32(this.table + i * ENTRY_BYTES + 12, true);
  }

  genuine(i: number): boolean {
    return this.#view.getUint32(this.table + i * ENTRY_BYTES + 16, true) === 1;
  }

  judge(i: number, genuine: boolean): void {
    this.#view.setUint32(this.table + i * ENTRY_BYTES + 16, genuine ? 1 : 0, true);
  }

  clear(): void {
    this.count = 0;
  }
}
