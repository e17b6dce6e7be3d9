import { KEY_BYTES } from "../kit/key.js";
import { BODY_BYTES_MAX, bodyBounds, FRAME, HEADER_BYTES } from "../wire/relay.js";

/** Where the frames of one connection go. A frame is a stretch of a buffer that nobody else writes to. */
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
 * Cuts a stream into frames where they lie. Only a frame that is split between two chunks is copied, once; what it
 * holds meanwhile is at most FRAME_BYTES_MAX.
 */
export class FrameReader {
  readonly #sink: FrameSink;
  readonly #header = new Uint8Array(HEADER_BYTES);
  #headerBytes = 0;
  #split: Uint8Array | undefined;
  #filled = 0;
  #dead = false;

  constructor(sink: FrameSink) {
    this.#sink = sink;
  }

  /** True while a frame has begun and not ended. */
  get inFrame(): boolean {
    return this.#headerBytes > 0 || this.#split !== undefined;
  }

  push(chunk: Uint8Array): void {
    if (this.#dead) return;
    let at = this.inFrame ? this.#complete(chunk) : 0;
    const last = chunk.length;
    while (last - at >= HEADER_BYTES && !this.#dead) {
      const length = ((chunk[at + 1] ?? 0) << 8) | (chunk[at + 2] ?? 0);
      if (length > BODY_BYTES_MAX) {
        this.#giveUp();
        return;
      }
      const end = at + HEADER_BYTES + length;
      if (end > last) break;
      this.#hand(chunk, at, end, length);
      at = end;
    }
    this.#sink.flush();
    if (at < last && !this.#dead) this.#begin(chunk, at);
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

  /** Keeps the first part of a frame whose rest is still to come. */
  #begin(chunk: Uint8Array, at: number): void {
    while (at < chunk.length && this.#headerBytes < HEADER_BYTES) this.#header[this.#headerBytes++] = chunk[at++] ?? 0;
    if (this.#headerBytes < HEADER_BYTES) return;
    const length = ((this.#header[1] ?? 0) << 8) | (this.#header[2] ?? 0);
    if (length > BODY_BYTES_MAX) {
      this.#giveUp();
      return;
    }
    this.#split = new Uint8Array(HEADER_BYTES + length);
    this.#split.set(this.#header);
    this.#split.set(chunk.subarray(at), HEADER_BYTES);
    this.#filled = HEADER_BYTES + chunk.length - at;
  }

  /** Adds to the frame that has begun; where the chunk goes on after it. */
  #complete(chunk: Uint8Array): number {
    let at = 0;
    if (this.#split === undefined) {
      while (at < chunk.length && this.#headerBytes < HEADER_BYTES)
        this.#header[this.#headerBytes++] = chunk[at++] ?? 0;
      if (this.#headerBytes < HEADER_BYTES) return at;
      const length = ((this.#header[1] ?? 0) << 8) | (this.#header[2] ?? 0);
      if (length > BODY_BYTES_MAX) {
        this.#giveUp();
        return at;
      }
      this.#split = new Uint8Array(HEADER_BYTES + length);
      this.#split.set(this.#header);
      this.#filled = HEADER_BYTES;
    }
    const split = this.#split;
    const take = Math.min(split.length - this.#filled, chunk.length - at);
    split.set(chunk.subarray(at, at + take), this.#filled);
    this.#filled += take;
    if (this.#filled < split.length) return at + take;
    this.#split = undefined;
    this.#headerBytes = 0;
    this.#hand(split, 0, split.length, split.length - HEADER_BYTES);
    return at + take;
  }

  #giveUp(): void {
    this.#dead = true;
    this.#split = undefined;
    this.#sink.oversized();
  }
}
