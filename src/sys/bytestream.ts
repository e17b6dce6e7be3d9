import type { Duplex } from "node:stream";
import { TLSSocket } from "node:tls";
import type { BinarySocket } from "./websocket.js";

/** A connection as bytes in both directions, whichever end opened it. */
export interface ByteStream {
  /** The other end's address, as its socket says it; empty behind a proxy. */
  readonly remote: string;
  /** RFC 9266: 32 bytes that only the two ends of this very TLS connection know; undefined where a proxy stands between. */
  readonly binding: Uint8Array | undefined;
  /** Says who hears it, once. `closed` is the last call. */
  listen(listener: StreamListener): void;
  /** Sends the parts in a row. One write is under way at a time: the next one after `written`. */
  write(parts: readonly Uint8Array[]): void;
  /** Holds reading up; what the kernel takes meanwhile holds the other end up. */
  pause(): void;
  resume(): void;
  /** Sends what was written, then ends; by force when that takes longer than END_TIMEOUT_MS. */
  end(): void;
  /** Ends it by force, now. */
  terminate(): void;
}

export type StreamListener = {
  /** What arrived in one turn of the event loop, in order; the chunks are the listener's. */
  data(chunks: readonly Uint8Array[]): void;
  /** The last write has been handed to the kernel. */
  written(): void;
  /** Why, in words. */
  closed(reason: string): void;
};

export const END_TIMEOUT_MS = 1_000;
/**
 * What one connection may hand over in one turn of the event loop, so that a fast one leaves room for the others, and so
 * that what was read is still in the cache when it is written: 256 KiB cost a relay a sixth more processor time.
 */
const TURN_BYTES_MAX = 64 * 1024;
/** RFC 9266 §2 */
const EXPORTER_LABEL = "EXPORTER-Channel-Binding";
const BINDING_BYTES = 32;

/** Both ends can name a TLS connection by this; a proxy that decrypts in between gets another value. */
function bindingOf(stream: Duplex): Uint8Array | undefined {
  if (!(stream instanceof TLSSocket) || stream.destroyed) return undefined;
  return new Uint8Array(stream.exportKeyingMaterial(BINDING_BYTES, EXPORTER_LABEL, Buffer.alloc(0)));
}

/**
 * A TLS or TCP socket, paused until it is listened to. `head` is what was read of it already. A class and no closures
 * for what it does, and a binding that is not kept: a relay holds thousands of these, and most are idle.
 */
export class SocketStream implements ByteStream {
  readonly remote: string;
  readonly #stream: Duplex;
  readonly #bound: boolean;
  #head: Uint8Array | undefined;
  #listener: StreamListener | undefined;
  #problem: string | undefined;
  #chunks: Uint8Array[] = [];
  #turnBytes = 0;
  #held = false;

  /** `bound`: the other end asked for the binding, or will be told that it is used. */
  constructor(stream: Duplex, remote: string, bound: boolean, head: Uint8Array) {
    this.remote = remote;
    this.#stream = stream;
    this.#bound = bound;
    this.#head = head;
    stream.on("error", (error: Error) => {
      this.#problem ??= error.message;
    });
    stream.on("close", this.#closed);
    // The other end has said all it will say: nobody waits for it to read the rest.
    stream.on("end", destroyThis);
  }

  get binding(): Uint8Array | undefined {
    return this.#bound ? bindingOf(this.#stream) : undefined;
  }

  listen(given: StreamListener): void {
    this.#listener = given;
    if (this.#stream.destroyed) {
      queueMicrotask(this.#closed);
      return;
    }
    const head = this.#head;
    this.#head = undefined;
    if (head !== undefined && head.length > 0) this.#heard(new Uint8Array(head));
    this.#stream.on("data", this.#heard);
    if (!this.#held) this.#stream.resume();
  }

  write(parts: readonly Uint8Array[]): void {
    const stream = this.#stream;
    const last = parts.length - 1;
    if (last > 0) stream.cork();
    for (let i = 0; i < last; i++) stream.write(parts[i]);
    stream.write(parts[last], this.#written);
    if (last > 0) stream.uncork();
  }

  pause(): void {
    this.#held = true;
    this.#stream.pause();
  }

  resume(): void {
    this.#held = false;
    if (this.#turnBytes < TURN_BYTES_MAX) this.#stream.resume();
  }

  end(): void {
    this.#stream.end();
    setTimeout(() => this.#stream.destroy(), END_TIMEOUT_MS).unref();
  }

  terminate(): void {
    this.#stream.destroy();
  }

  // TLS hands over a record at a time, 16 KB at most. Together they cost the listener a third of the calls, and what it
  // answers leaves in one piece.
  readonly #heard = (chunk: Uint8Array): void => {
    this.#chunks.push(chunk);
    this.#turnBytes += chunk.length;
    if (this.#chunks.length === 1) setImmediate(this.#nextTurn);
    if (this.#turnBytes >= TURN_BYTES_MAX) this.#stream.pause();
  };

  readonly #nextTurn = (): void => {
    const chunks = this.#chunks;
    if (chunks.length === 0) return;
    const full = this.#turnBytes >= TURN_BYTES_MAX;
    this.#chunks = [];
    this.#turnBytes = 0;
    this.#listener?.data(chunks);
    if (full && !this.#held) this.#stream.resume();
  };

  readonly #written = (error?: Error | null): void => {
    if (!error) this.#listener?.written();
  };

  readonly #closed = (): void => {
    this.#nextTurn(); // the last words may be why
    this.#listener?.closed(this.#problem ?? "it was closed by the other end");
  };
}

function destroyThis(this: Duplex): void {
  this.destroy();
}

/** A message of a WebSocket; what it carries may be split over several. */
export const MESSAGE_BYTES_MAX = 65_536;

/** The bytes of a WebSocket's binary messages, where the messages begin and end does not matter. */
export function adaptMessages(socket: BinarySocket): ByteStream {
  let listener: StreamListener | undefined;
  return {
    remote: "",
    binding: undefined,
    listen(given) {
      listener = given;
      socket.listen({
        message: (message) => given.data([new Uint8Array(message)]),
        closed: (reason) => given.closed(reason),
      });
    },
    write(parts) {
      const whole = Buffer.concat(parts);
      const sent: Promise<void>[] = [];
      for (let at = 0; at < whole.length; at += MESSAGE_BYTES_MAX)
        sent.push(socket.send(whole.subarray(at, at + MESSAGE_BYTES_MAX)));
      Promise.all(sent).then(
        () => listener?.written(),
        () => undefined, // the socket says so itself, by closing
      );
    },
    pause: () => socket.pause?.(),
    resume: () => socket.resume?.(),
    end: () => socket.close(),
    terminate: () => socket.terminate(),
  };
}
