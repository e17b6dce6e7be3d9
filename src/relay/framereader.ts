import { KEY_BYTES } from "../kit/key.js";
import { BODY_BYTES_MAX, bodyBounds, FRAME, HEADER_BYTES } from "../wire/relay.js";
import type { TurnMemory } from "./turnmemory.js";

/**
 * Where the frames of one connection go. A frame is a stretch of a buffer that nobody else writes to until flush()
 * returns, and after it while somebody holds the buffer.
 */
export type FrameSink = {
  /** A whole frame of a known type and a fitting length: `buffer[at]` is its type, `end` is behind its last byte. */
  frame(type: number, buffer: Uint8Array, at: number, end: number): void;
  /** All whole frames of a buffer have been handed over. */
  flush(): void;
  /** A frame that was passed over: unknown, or of a length that does not fit its type. */
  malformed(): void;
  /** A length beyond BODY_BYTES_MAX: where the next frame begins cannot be known. Nothing more is read. */
  oversized(): void;
};

/**
 * Cuts a stream into frames where they lie. Chunks that came together are joined, with what was left of a frame before
 * them: one copy, and all frames lie in one buffer. What it keeps meanwhile is less than one frame.
 */
export class FrameReader {
  readonly #sink: FrameSink;
  readonly #memory: TurnMemory;
  /** The beginning of a frame whose rest is still to come. */
  #rest: Uint8Array | undefined;
  #dead = false;

  constructor(sink: FrameSink, memory: TurnMemory) {
    this.#sink = sink;
    this.#memory = memory;
  }

  /** True while a frame has begun and not ended. */
  get inFrame(): boolean {
    return this.#rest !== undefined;
  }

  push(chunks: readonly Uint8Array[]): void {
    if (this.#dead) return;
    const buffer = this.#memory.join(this.#rest, chunks);
    const last = buffer.length;
    let at = 0;
    while (last - at >= HEADER_BYTES && !this.#dead) {
      const length = ((buffer[at + 1] ?? 0) << 8) | (buffer[at + 2] ?? 0);
      if (length > BODY_BYTES_MAX) {
        this.#giveUp();
        break;
      }
      const end = at + HEADER_BYTES + length;
      if (end > last) break;
      this.#hand(buffer, at, end, length);
      at = end;
    }
    this.#sink.flush();
    this.#rest = at < last && !this.#dead ? new Uint8Array(buffer.subarray(at)) : undefined;
    this.#memory.release(buffer);
  }

  #hand(buffer: Uint8Array, at: number, end: number, length: number): void {
    const type = buffer[at] ?? 0;
    // Nearly every frame; the table is for the others.
    if (type === FRAME.datagram && length > KEY_BYTES) {
      this.#sink.frame(type, buffer, at, end);
      return;
    }
    const bounds = bodyBounds(type);
    if (bounds === undefined || length < bounds[0] || length > bounds[1]) this.#sink.malformed();
    else this.#sink.frame(type, buffer, at, end);
  }

  #giveUp(): void {
    this.#dead = true;
    this.#rest = undefined;
    this.#sink.oversized();
  }
}
