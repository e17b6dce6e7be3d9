import type { Millis } from "../kit/time.js";
import type { TurnMemory } from "./turnmemory.js";

/** The connection as the switchboard sees it: one write under way at a time, reported back when it has left. */
export type Port = {
  write(parts: readonly Uint8Array[]): void;
  pause(): void;
  resume(): void;
};

export type OutboxLimits = {
  readonly dataBytesMax: number;
  readonly probeBytesMax: number;
  readonly noteBytesMax: number;
  /** One write: small enough that a slow line finishes it within the time it is given. */
  readonly writeBytesMax: number;
};

export type OutboxKind = "data" | "probe" | "note";

/** Counted by whoever owns the outbox. */
export type OutboxTally = { dropped(kind: OutboxKind, frames: number, bytes: number): void };

/** A row of whole frames that leaves in one piece, or is dropped in one piece. */
type Run = { readonly bytes: Uint8Array; readonly frames: number };

/** A slice that keeps alive a buffer so many times its own size is copied when it has to wait. */
const WASTE_MAX = 4;

/**
 * What waits to be sent to one device: probes apart from data, each bounded, the oldest dropped first. What has been
 * handed to the port is beyond recall, so only one write is.
 */
export class Outbox {
  readonly #port: Port;
  readonly #limits: OutboxLimits;
  readonly #tally: OutboxTally;
  readonly #memory: TurnMemory;
  readonly #queues: Record<OutboxKind, Queue> = { note: new Queue(), probe: new Queue(), data: new Queue() };
  #writingSince: Millis | undefined;
  #writing = NOTHING;

  constructor(port: Port, limits: OutboxLimits, tally: OutboxTally, memory: TurnMemory) {
    this.#port = port;
    this.#limits = limits;
    this.#tally = tally;
    this.#memory = memory;
  }

  /** Since when the write under way has not been taken; undefined while none is. */
  get writingSince(): Millis | undefined {
    return this.#writingSince;
  }

  get bytes(): number {
    return this.#queues.data.bytes + this.#queues.probe.bytes + this.#queues.note.bytes;
  }

  add(kind: OutboxKind, bytes: Uint8Array, frames: number): void {
    const queue = this.#queues[kind];
    const max = this.#bytesMax(kind);
    const kept = this.#writingSince === undefined ? bytes : compact(bytes);
    this.#memory.hold(kept);
    queue.push({ bytes: kept, frames });
    while (queue.bytes > max) {
      const oldest = queue.shift();
      if (oldest === undefined) return;
      this.#memory.release(oldest.bytes);
      this.#tally.dropped(kind, oldest.frames, oldest.bytes.length);
    }
  }

  /** Writes what waits, unless a write is under way. */
  flush(now: Millis): void {
    if (this.#writingSince !== undefined) return;
    const parts: Uint8Array[] = [];
    let room = this.#limits.writeBytesMax;
    for (const queue of [this.#queues.note, this.#queues.probe, this.#queues.data])
      while (room > 0) {
        const run = queue.shift();
        if (run === undefined) break;
        parts.push(run.bytes);
        room -= run.bytes.length;
      }
    if (parts.length === 0) return;
    this.#writingSince = now;
    this.#writing = parts;
    this.#port.write(parts);
  }

  written(now: Millis): void {
    this.#writingSince = undefined;
    for (const part of this.#writing) this.#memory.release(part);
    this.#writing = NOTHING;
    this.flush(now);
  }

  #bytesMax(kind: OutboxKind): number {
    const { dataBytesMax, probeBytesMax, noteBytesMax } = this.#limits;
    return kind === "data" ? dataBytesMax : kind === "probe" ? probeBytesMax : noteBytesMax;
  }
}

const NOTHING: readonly Uint8Array[] = [];

function compact(bytes: Uint8Array): Uint8Array {
  return bytes.buffer.byteLength > WASTE_MAX * bytes.length ? new Uint8Array(bytes) : bytes;
}

/** First in, first out, in amortized constant time. */
class Queue {
  bytes = 0;
  #runs: Run[] = [];
  #head = 0;

  push(run: Run): void {
    this.#runs.push(run);
    this.bytes += run.bytes.length;
  }

  shift(): Run | undefined {
    const run = this.#runs[this.#head];
    if (run === undefined) return undefined;
    this.#head++;
    this.bytes -= run.bytes.length;
    if (this.#head === this.#runs.length) {
      this.#runs = [];
      this.#head = 0;
    } else if (this.#head >= 64) {
      this.#runs = this.#runs.slice(this.#head);
      this.#head = 0;
    }
    return run;
  }
}
