import { createServer, type IncomingMessage, type RequestListener } from "node:http";
import { createServer as createSecureServer } from "node:https";
import type { Server, Socket } from "node:net";
import type { Duplex } from "node:stream";
import { DEFAULT_CIPHERS } from "node:tls";
import { adaptMessages, type ByteStream, MESSAGE_BYTES_MAX, SocketStream } from "./bytestream.js";
import { boundPort, closeServer, listenOn, type Served, trackStreams } from "./listening.js";

/**
 * A server for connections that leave HTTP, and a few small requests. Apart from httpserver.ts because it loads neither
 * fetch's classes nor WebSockets before one comes: 15 MB less resident in a relay.
 */

/** Connections that leave HTTP at a path of their own: by `Upgrade: protocol`, or as WebSockets behind a proxy. */
export type Streams = {
  readonly path: string;
  readonly protocol: string;
  /** With this header the other end asks for the TLS connection's exporter value (ByteStream.binding). */
  readonly bindingHeader: string;
  accept(stream: ByteStream): void;
};

export type SmallRequest = { readonly method: string; readonly path: string; readonly body: Uint8Array };
export type SmallReply = { readonly status: number; readonly type?: string; readonly body?: string };
/** Answers a request whose body is at most BODY_BYTES_MAX long. */
export type SmallAnswer = (request: SmallRequest) => SmallReply;

export const BODY_BYTES_MAX = 1_024;
/** From a connection to its TLS, from there to the end of its headers, and of its request: each has so long. */
export const PATIENCE_MS = 10_000;

/**
 * AES-128 before AES-256, where Node has it the other way round: what is carried is ciphertext already, and it is a
 * tenth of a relay's processor time. Then whatever else a client may have to speak.
 */
const CIPHERS = `TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:${DEFAULT_CIPHERS}`;

export type StreamService = {
  readonly address: string;
  readonly port: number;
  readonly key: string;
  readonly certificate: string;
  /** Of all kinds; the kernel refuses further ones until some end. */
  readonly connectionsMax: number;
  /** Of those that have not left HTTP; at one more, the one that has waited longest is cut. */
  readonly waitingMax?: number;
  readonly patienceMs?: number;
  readonly streams: Streams;
  readonly answer: SmallAnswer;
};

export async function serveStreams(service: StreamService): Promise<Served> {
  const { address, port, key, certificate, connectionsMax, streams, answer } = service;
  const { waitingMax = connectionsMax, patienceMs = PATIENCE_MS } = service;
  const server = createSecureServer(
    {
      key,
      cert: certificate,
      minVersion: "TLSv1.2",
      ciphers: CIPHERS,
      handshakeTimeout: patienceMs,
      headersTimeout: patienceMs,
      requestTimeout: patienceMs,
      connectionsCheckingInterval: patienceMs / 2,
    },
    smallListener(answer),
  );
  server.maxConnections = connectionsMax;
  const left = limitWaiting(server, waitingMax);
  server.on("upgrade", (request: IncomingMessage, stream: Duplex, head: Buffer) => {
    left(request.socket);
    stream.on("error", () => stream.destroy());
    if (request.url?.split("?")[0] === streams.path) upgradeStream(streams, request, stream, head);
    else refuseUpgrade(stream, "404 Not Found");
  });
  const open = trackStreams(server);
  await listenOn(server, address, port);
  return { port: boundPort(server), close: () => closeServer(server, open) };
}

/**
 * Bounds the connections that are still in TCP, TLS or HTTP: who opens thousands and says nothing takes the place of
 * others who say nothing. The function it returns is told who has left HTTP.
 */
function limitWaiting(server: Server, waitingMax: number): (socket: Socket) => void {
  // TLS has a socket of its own over the one that was accepted: both name the same other end.
  const nameOf = ({ remoteAddress, remotePort }: Socket): string => `${remoteAddress} ${remotePort}`;
  const waiting = new Map<string, Socket>();
  function ended(this: Socket): void {
    if (waiting.get(nameOf(this)) === this) waiting.delete(nameOf(this));
  }
  server.on("connection", (socket: Socket) => {
    waiting.set(nameOf(socket), socket);
    socket.on("close", ended);
    if (waiting.size > waitingMax) for (const [, oldest] of waiting) return void oldest.destroy();
  });
  return (socket) => {
    waiting.get(nameOf(socket))?.off("close", ended);
    waiting.delete(nameOf(socket));
  };
}

/** Small requests without TLS, for what stays on one machine. */
export async function servePlain(address: string, port: number, answer: SmallAnswer): Promise<Served> {
  const server = createServer({ headersTimeout: PATIENCE_MS, requestTimeout: PATIENCE_MS }, smallListener(answer));
  const open = trackStreams(server);
  await listenOn(server, address, port);
  return { port: boundPort(server), close: () => closeServer(server, open) };
}

/** Takes a connection out of HTTP and hands it to `accept`. */
export function upgradeStream(streams: Streams, request: IncomingMessage, stream: Duplex, head: Buffer): void {
  const { protocol, bindingHeader, accept } = streams;
  const wanted = request.headers.upgrade?.toLowerCase();
  if (wanted === "websocket") void upgradeMessages(accept, request, stream, head).catch(() => stream.destroy());
  else if (wanted !== protocol) refuseUpgrade(stream, "426 Upgrade Required");
  else {
    request.socket.setNoDelay(true);
    stream.write(`HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ${protocol}\r\n\r\n`);
    const bound = request.headers[bindingHeader] === "exporter";
    accept(new SocketStream(stream, plainAddress(request.socket.remoteAddress ?? ""), bound, head));
  }
}

async function upgradeMessages(
  accept: Streams["accept"],
  request: IncomingMessage,
  stream: Duplex,
  head: Buffer,
): Promise<void> {
  const { WebSocketServer } = await import("ws");
  const { adaptSocket } = await import("./websocket.js");
  const upgrades = new WebSocketServer({
    noServer: true,
    maxPayload: MESSAGE_BYTES_MAX,
    perMessageDeflate: false, // the content is ciphertext
    clientTracking: false,
  });
  upgrades.handleUpgrade(request, stream, head, (socket) => accept(adaptMessages(adaptSocket(socket))));
}

export function refuseUpgrade(stream: Duplex, status: string): void {
  // Destroyed, for whoever got its answer and does not close would have the connection for ever.
  stream.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`, () => stream.destroy());
}

/** An IPv4 address as a socket of both families shows it, without the ::ffff:. */
const plainAddress = (address: string): string => /^::ffff:(\d+\.\d+\.\d+\.\d+)$/.exec(address)?.[1] ?? address;

function smallListener(answer: SmallAnswer): RequestListener {
  return (incoming, outgoing) => {
    const chunks: Buffer[] = [];
    let length = 0;
    incoming.on("error", () => undefined);
    incoming.on("data", (chunk: Buffer) => {
      length += chunk.length;
      if (length <= BODY_BYTES_MAX) chunks.push(chunk);
      else incoming.destroy();
    });
    incoming.on("end", () => {
      const [path = ""] = (incoming.url ?? "").split("?");
      const { status, type, body } = answer({ method: incoming.method ?? "", path, body: Buffer.concat(chunks) });
      outgoing.writeHead(status, {
        "content-length": Buffer.byteLength(body ?? ""),
        ...(type && { "content-type": type }),
      });
      outgoing.end(body);
    });
  };
}
