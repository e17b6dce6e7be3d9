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
  /** The chunk is the listener's to keep and to write into. */
  data(chunk: Uint8Array): void;
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
export const TURN_BYTES_MAX = 64 * 1024;
/** RFC 9266 §2 */
const EXPORTER_LABEL = "EXPORTER-Channel-Binding";
const BINDING_BYTES = 32;

/** Both ends can name a TLS connection by this; a proxy that decrypts in between gets another value. */
export function bindingOf(stream: Duplex): Uint8Array | undefined {
  if (!(stream instanceof TLSSocket)) return undefined;
  return new Uint8Array(stream.exportKeyingMaterial(BINDING_BYTES, EXPORTER_LABEL, Buffer.alloc(0)));
}

/** A TLS or TCP socket, paused until it is listened to. `head` is what was read of it already. */
export function adaptStream(
  stream: Duplex,
  remote: string,
  binding: Uint8Array | undefined,
  head: Uint8Array,
): ByteStream {
  let problem: string | undefined;
  let listener: StreamListener | undefined;
  let turnBytes = 0;
  let turning = false;
  let held = false;
  stream.on("error", (error: Error) => {
    problem ??= error.message;
  });
  const closed = (): void => listener?.closed(problem ?? "it was closed by the other end");
  stream.on("close", closed);
  // The other end has said all it will say: nobody waits for it to read the rest.
  stream.on("end", () => stream.destroy());
  const nextTurn = (): void => {
    turning = false;
    const full = turnBytes >= TURN_BYTES_MAX;
    turnBytes = 0;
    if (full && !held) stream.resume();
  };
  const heard = (chunk: Uint8Array): void => {
    turnBytes += chunk.length;
    if (!turning) {
      turning = true;
      setImmediate(nextTurn);
    }
    if (turnBytes >= TURN_BYTES_MAX) stream.pause();
    listener?.data(chunk);
  };
  const written = (error?: Error | null): void => {
    if (!error) listener?.written();
  };
  return {
    remote,
    binding,
    listen(given) {
      listener = given;
      if (stream.destroyed) return queueMicrotask(closed);
      if (head.length > 0) given.data(new Uint8Array(head));
      stream.on("data", heard);
      if (!held) stream.resume();
    },
    write(parts) {
      const last = parts.length - 1;
      if (last > 0) stream.cork();
      for (let i = 0; i < last; i++) stream.write(parts[i]);
      stream.write(parts[last], written);
      if (last > 0) stream.uncork();
    },
    pause() {
      held = true;
      stream.pause();
    },
    resume() {
      held = false;
      if (turnBytes < TURN_BYTES_MAX) stream.resume();
    },
    end() {
      stream.end();
      setTimeout(() => stream.destroy(), END_TIMEOUT_MS).unref();
    },
    terminate: () => void stream.destroy(),
  };
}

/** The bytes of a WebSocket's binary messages, where the messages begin and end does not matter. Pausing has no effect. */
export function adaptMessages(socket: BinarySocket): ByteStream {
  let listener: StreamListener | undefined;
  return {
    remote: "",
    binding: undefined,
    listen(given) {
      listener = given;
      socket.listen({
        message: (message) => given.data(new Uint8Array(message)),
        closed: (reason) => given.closed(reason),
      });
    },
    write(parts) {
      socket.send(Buffer.concat(parts)).then(
        () => listener?.written(),
        () => undefined, // the socket says so itself, by closing
      );
    },
    pause: () => undefined,
    resume: () => undefined,
    end: () => socket.close(),
    terminate: () => socket.terminate(),
  };
}
