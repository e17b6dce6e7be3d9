import { createServer, type IncomingMessage, type RequestListener } from "node:http";
import { createServer as createTcpServer } from "node:net";
import type { Duplex } from "node:stream";
import { createSecureContext, DEFAULT_CIPHERS, TLSSocket } from "node:tls";
import { adaptMessages, type ByteStream, MESSAGE_BYTES_MAX, SocketStream } from "./bytestream.js";
import { HANDSHAKE_LIMITS, type HandshakeLimits, queueHandshakes } from "./handshakes.js";
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

const BODY_BYTES_MAX = 1_024;
/** For a request without TLS, and its answer. */
const PATIENCE_MS = 10_000;

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
  /** Of all kinds; further ones are turned away until some end. */
  readonly connectionsMax: number;
  /** Of those that have not left HTTP: here it is a part of their handshake. */
  readonly limits?: Partial<HandshakeLimits>;
  readonly streams: Streams;
  readonly answer: SmallAnswer;
};

export async function serveStreams(service: StreamService): Promise<Served> {
  const { address, port, key, certificate, connectionsMax, streams, answer } = service;
  const secureContext = createSecureContext({
    key,
    cert: certificate,
    // No client shows a certificate: without this, Node keeps the Web's 140 authorities to judge them by.
    ca: [],
    minVersion: "TLSv1.2",
    ciphers: CIPHERS,
    honorCipherOrder: true,
  });
  const accept = (stream: TLSSocket, bound: boolean, head: Uint8Array): void => {
    settle(stream);
    stream.write(switchingTo(streams.protocol));
    streams.accept(new SocketStream(stream, plainAddress(stream.remoteAddress ?? ""), bound, head));
  };
  function heardFirst(this: TLSSocket, chunk: Buffer): void {
    this.off("data", heardFirst);
    const asked = askedAtOnce(streams, chunk);
    if (asked !== undefined) {
      accept(this.pause(), asked.bound, asked.head);
      return;
    }
    this.unshift(chunk);
    http.emit("connection", this);
  }
  // It never listens: it is handed the connections of whoever is no device, or writes a request in pieces.
  const http = createServer(smallListener(answer));
  http.on("upgrade", (request: IncomingMessage, stream: Duplex, head: Buffer) => {
    if (request.url?.split("?")[0] !== streams.path) {
      refuseUpgrade(stream, "404 Not Found");
      return;
    }
    if (stream instanceof TLSSocket) settle(stream);
    upgradeStream(streams, request, stream, head);
  });
  const server = createTcpServer({ noDelay: true }, (socket) => {
    const stream = new TLSSocket(socket, { isServer: true, secureContext });
    stream.on("error", destroyThis);
    stream.on("data", heardFirst);
  });
  const settle = queueHandshakes(server, connectionsMax, { ...HANDSHAKE_LIMITS, ...service.limits });
  const open = trackStreams(server);
  await listenOn(server, address, port);
  return { port: boundPort(server), close: () => closeServer(server, open) };
}

function destroyThis(this: TLSSocket): void {
  this.destroy();
}

/**
 * What a device asks, when its first bytes are all of its request, as they are. Read by hand: what the HTTP parser
 * leaves in memory of a connection that has left it is 2 KB.
 */
function askedAtOnce({ path, protocol, bindingHeader }: Streams, chunk: Buffer) {
  const end = chunk.indexOf("\r\n\r\n");
  const [line, ...headers] = chunk.toString("latin1", 0, Math.max(0, end)).toLowerCase().split("\r\n");
  const wanted = ["connection: upgrade", `upgrade: ${protocol}`];
  if (line !== `get ${path} http/1.1` || !wanted.every((header) => headers.includes(header))) return undefined;
  return { bound: headers.includes(`${bindingHeader}: exporter`), head: chunk.subarray(end + 4) };
}

const switchingTo = (protocol: string): string =>
  `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ${protocol}\r\n\r\n`;

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
    stream.write(switchingTo(protocol));
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
        connection: "close",
        "content-length": Buffer.byteLength(body ?? ""),
        ...(type && { "content-type": type }),
      });
      outgoing.end(body);
    });
  };
}
