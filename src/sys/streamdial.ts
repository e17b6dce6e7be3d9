import { request } from "node:https";
import { Failure } from "../kit/failure.js";
import type { Millis } from "../kit/time.js";
import { adaptMessages, type ByteStream, MESSAGE_BYTES_MAX, SocketStream } from "./bytestream.js";

export type StreamDialOptions = {
  readonly protocol: string;
  /** Sent with the value "exporter". */
  readonly bindingHeader: string;
  readonly timeoutMs: Millis;
  readonly signal: AbortSignal;
};

/** Opens an https: URL and leaves HTTP there. */
export type DialStream = (url: string, options: StreamDialOptions) => Promise<ByteStream>;

/**
 * Dials without judging the certificate, as dialWebSocket does and for the same reason: the Noise handshake inside
 * authenticates the relay by its key, with this TLS connection's exporter value in its prologue. Of a name's IPv6 and
 * IPv4 addresses Node tries the next one after 250 ms (RFC 8305 §5). Who answers with HTTP may be a proxy that lets
 * nothing but WebSockets through, and is asked for one.
 */
export const dialStream: DialStream = (url, { protocol, bindingHeader, timeoutMs, signal }) =>
  new Promise((resolve, reject) => {
    const fail = (why: string, cause?: unknown): void =>
      reject(new Failure("relay-unreachable", `${url}: ${why}`, { cause }));
    if (signal.aborted) {
      fail("cancelled");
      return;
    }
    const outgoing = request(url, {
      method: "GET",
      agent: false,
      rejectUnauthorized: false,
      headers: { connection: "Upgrade", upgrade: protocol, [bindingHeader]: "exporter" },
      signal,
    });
    const timer = setTimeout(() => outgoing.destroy(new Error("no answer in time")), timeoutMs);
    outgoing.on("error", (error) => {
      clearTimeout(timer);
      fail(error.message || "the connection failed", error);
    });
    outgoing.on("response", (incoming) => {
      clearTimeout(timer);
      incoming.resume();
      outgoing.destroy();
      dialMessages(url, timeoutMs, signal).then(resolve, () =>
        fail(`it answered HTTP ${incoming.statusCode ?? 0}: no relay is there`),
      );
    });
    outgoing.on("upgrade", (incoming, socket, head) => {
      clearTimeout(timer);
      incoming.socket.setNoDelay(true);
      resolve(new SocketStream(socket, incoming.socket.remoteAddress ?? "", true, head));
    });
    outgoing.end();
  });

async function dialMessages(url: string, timeoutMs: Millis, signal: AbortSignal): Promise<ByteStream> {
  const { dialWebSocket } = await import("./websocket.js");
  const options = { messageBytesMax: MESSAGE_BYTES_MAX, timeoutMs, signal };
  return adaptMessages(await dialWebSocket(url.replace(/^https:/, "wss:"), options));
}
