import type { FreeChunk } from "../sys/freeing.js";

/** What arrives in one turn of the event loop, with the beginning of a frame from before: all of it fits. */
const BUFFER_BYTES = 96 * 1024;
/** Buffers that a relay keeps, as many as there are slow readers; one more is left to the collector. */
export const TURN_BUFFERS_KEPT = 64;

/**
 * The buffers in which frames lie from their arrival until they have been written: with `kept`, the same few again and
 * again, so that they stay in the processor's cache. Each counts who holds it; one that nobody lets go of is the
 * collector's. Without, every turn has memory of its own, which may be kept by whoever sees it.
 */
export class TurnMemory {
  readonly #kept: number;
  readonly #free: ArrayBuffer[] = [];
  /** How many of the free ones have not been needed since the last tidy(). */
  #unneeded = 0;
  readonly #holders = new WeakMap<ArrayBufferLike, number>();
  readonly #freeChunk: FreeChunk | undefined;

  constructor(kept = 0, freeChunk?: FreeChunk) {
    this.#kept = kept;
    this.#freeChunk = freeChunk;
  }

  /** What is left of before and the chunks in a row, held once. The chunks are nobody's after it. */
  join(first: Uint8Array | undefined, chunks: readonly Uint8Array[]): Uint8Array {
    const [only] = chunks;
    if (this.#kept === 0 && only !== undefined && chunks.length === 1 && first === undefined) return only;
    let length = first?.length ?? 0;
    for (const chunk of chunks) length += chunk.length;
    const joined = this.#take(length);
    if (first !== undefined) joined.set(first);
    let at = first?.length ?? 0;
    for (const chunk of chunks) {
      joined.set(chunk, at);
      at += chunk.length;
      this.#freeChunk?.(chunk);
    }
    return joined;
  }

  /** One more holder of the buffer that the bytes lie in; of memory from elsewhere nothing is counted. */
  hold({ buffer }: Uint8Array): void {
    const holders = this.#holders.get(buffer);
    if (holders !== undefined) this.#holders.set(buffer, holders + 1);
  }

  release({ buffer }: Uint8Array): void {
    const holders = this.#holders.get(buffer);
    if (holders === undefined) return;
    if (holders > 1) this.#holders.set(buffer, holders - 1);
    else {
      this.#holders.delete(buffer);
      if (buffer instanceof ArrayBuffer && this.#free.length < this.#kept) this.#free.push(buffer);
    }
  }

  /** Lets go of the buffers that were not needed since the last time. */
  tidy(): void {
    for (const buffer of this.#free.splice(0, this.#unneeded)) this.#freeChunk?.(new Uint8Array(buffer));
    this.#unneeded = this.#free.length;
  }

  #take(length: number): Uint8Array {
    // Not zeroed: every byte is written before it is read.
    if (this.#kept === 0 || length > BUFFER_BYTES) return Buffer.allocUnsafeSlow(length);
    const buffer = this.#free.pop() ?? Buffer.allocUnsafeSlow(BUFFER_BYTES).buffer;
    this.#unneeded = Math.min(this.#unneeded, this.#free.length);
    this.#holders.set(buffer, 1);
    return new Uint8Array(buffer, 0, length);
  }
}
