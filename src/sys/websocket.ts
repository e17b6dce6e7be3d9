import { WebSocket } from "ws";
import { Failure } from "../kit/failure.js";
import type { Millis } from "../kit/time.js";

/** One WebSocket that carries binary messages, whichever end opened it. */
export interface BinarySocket {
  /** Fulfilled when the message has left this process; rejected when the connection has ended. */
  send(message: Uint8Array): Promise<void>;
  /** Says who hears it, once. What arrived before is handed over at once; `closed` is the last call. */
  listen(listener: SocketListener): void;
  /** Holds reading up; left out where nobody is to be held. */
  pause?(): void;
  resume?(): void;
  /** Ends it with a closing handshake, by force when that takes longer than CLOSE_TIMEOUT_MS. */
  close(): void;
  /** Ends it by force, now. */
  terminate(): void;
}

export type SocketListener = {
  message(message: Uint8Array): void;
  /** Why, in words. */
  closed(reason: string): void;
};

export type DialOptions = {
  /** A longer message ends the connection. */
  readonly messageBytesMax: number;
  readonly timeoutMs: Millis;
  /** For all that follows once something has answered there; as long as timeoutMs where it is left out. */
  readonly handshakeTimeoutMs?: Millis;
  readonly signal: AbortSignal;
};

/** Opens a socket to a wss: URL; a Failure says in words what stood in the way. */
export type Dial = (url: string, options: DialOptions) => Promise<BinarySocket>;

/**
 * Dials without judging the certificate (`rejectUnauthorized: false`). That is right for the control channel and for
 * it alone: the Noise handshake inside authenticates the coordinator by its key, which no certificate could improve
 * on, and a home coordinator has a self-signed one. TLS is there for the proxies and firewalls on the way.
 */
export const dialWebSocket: Dial = (url, { messageBytesMax, timeoutMs, handshakeTimeoutMs = timeoutMs, signal }) =>
  new Promise((resolve, reject) => {
    const socket = new WebSocket(url, {
      rejectUnauthorized: false,
      maxPayload: messageBytesMax,
      handshakeTimeout: handshakeTimeoutMs,
      finishRequest: (request) => {
        request.once("socket", (stream) => {
          const late = setTimeout(() => request.destroy(new Error(LATE)), timeoutMs);
          for (const event of ["connect", "close"]) stream.once(event, () => clearTimeout(late));
        });
        request.end();
      },
      perMessageDeflate: false, // the content is ciphertext
      followRedirects: false,
    });
    const abort = (): void => socket.terminate();
    signal.addEventListener("abort", abort, { once: true });
    const settle = (): void => {
      signal.removeEventListener("abort", abort);
      socket.off("error", fail);
    };
    const fail = (cause: Error): void => {
      settle();
      socket.on("error", () => undefined); // terminating a half-open socket reports a second error
      reject(new Failure("coordinator-unreachable", `${url}: ${inWords(cause, new URL(url).hostname)}`, { cause }));
    };
    socket.on("error", fail);
    socket.on("open", () => {
      settle();
      resolve(adaptSocket(socket));
    });
    if (signal.aborted) abort();
  });

const LATE = "the connection was not made in time";
const CLOSE_TIMEOUT_MS: Millis = 1_000;
/** Messages kept for a listener that is not there yet; no peer of ours sends two unasked. */
const BACKLOG_MESSAGES_MAX = 4;

/** A `ws` socket, either end's, as a BinarySocket. */
export function adaptSocket(socket: WebSocket): BinarySocket {
  let listener: SocketListener | undefined;
  let ended: string | undefined;
  let problem: string | undefined;
  const backlog: Uint8Array[] = [];
  socket.on("error", (error) => {
    problem = inWords(error, "the other end");
  });
  socket.on("message", (data, isBinary) => {
    if (!isBinary || !(data instanceof Buffer)) return socket.terminate();
    if (listener !== undefined) return listener.message(data);
    backlog.push(data);
    if (backlog.length > BACKLOG_MESSAGES_MAX) socket.terminate();
  });
  socket.on("close", (code) => {
    ended = problem ?? (code === 1000 || code === 1001 ? "it was closed by the other end" : `it broke (${code})`);
    listener?.closed(ended);
  });
  return {
    send(message) {
      return new Promise((resolve, reject) => {
        socket.send(message, { binary: true }, (error) => (error ? reject(error) : resolve()));
      });
    },
    listen(given) {
      listener = given;
      for (const message of backlog.splice(0)) given.message(message);
      if (ended !== undefined) given.closed(ended);
    },
    pause: () => socket.pause(),
    resume: () => socket.resume(),
    close() {
      socket.close(1000);
      setTimeout(() => socket.terminate(), CLOSE_TIMEOUT_MS).unref();
    },
    terminate: () => socket.terminate(),
  };
}

/** A connection's error as a person would say it. */
function inWords(error: Error, host: string): string {
  const code = "code" in error ? String(error.code) : "";
  switch (code) {
    case "ENOTFOUND":
    case "EAI_AGAIN":
      return `the name ${host} cannot be looked up (${code})`;
    case "ECONNREFUSED":
      return "nothing listens there (connection refused)";
    case "ECONNRESET":
    case "EPIPE":
      return "the connection was cut by the other end";
    case "ETIMEDOUT":
      return "no answer in time";
    case "EHOSTUNREACH":
    case "ENETUNREACH":
      return "there is no route to it";
    case "EPROTO":
      return "it does not speak TLS";
    case "WS_ERR_UNSUPPORTED_MESSAGE_LENGTH":
      return "a message was longer than allowed";
  }
  if (code.startsWith("ERR_SSL") || code.startsWith("ERR_TLS")) return `TLS failed: ${error.message}`;
  const status = /^Unexpected server response: (\d{3})$/.exec(error.message)?.[1];
  if (status !== undefined) return `it answered HTTP ${status}: no coordinator is there`;
  if (error.message === LATE || /handshake has timed out/.test(error.message)) return "no answer in time";
  // Node tries every address of a name and reports an AggregateError without a message of its own.
  const first: unknown = "errors" in error && Array.isArray(error.errors) ? error.errors[0] : undefined;
  if (first instanceof Error) return inWords(first, host);
  return error.message || code || "the connection failed";
}
