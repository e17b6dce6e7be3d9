import { chmod, mkdir, rm } from "node:fs/promises";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { createServer as createSecureServer } from "node:https";
import { dirname } from "node:path";
import type { Duplex } from "node:stream";
import { getRequestListener } from "@hono/node-server";
import { WebSocketServer } from "ws";
import { Failure } from "../kit/failure.js";
import { adaptMessages, adaptStream, type ByteStream, bindingOf } from "./bytestream.js";
import { adaptSocket, type BinarySocket } from "./websocket.js";

/** Answers one HTTP request; `remote` is the address of the other end, empty on a Unix socket. */
export type Answer = (request: Request, caller: { readonly remote: string }) => Response | Promise<Response>;

export type Served = {
  /** 0 on a Unix socket. */
  readonly port: number;
  /** Stops listening and cuts what is open. */
  close(): Promise<void>;
};

export type SecureService = {
  readonly address: string;
  readonly port: number;
  readonly key: string;
  readonly certificate: string;
  readonly answer: Answer;
  readonly sockets: {
    readonly path: string;
    readonly messageBytesMax: number;
    /** Of all kinds; the kernel refuses further ones until some end. */
    readonly connectionsMax: number;
    accept(socket: BinarySocket, remote: string): void;
  };
  /** Connections that leave HTTP at a path of their own: by `Upgrade: protocol`, or as WebSockets behind a proxy. */
  readonly streams?: {
    readonly path: string;
    readonly protocol: string;
    /** With this header the other end asks for the TLS connection's exporter value (ByteStream.binding). */
    readonly bindingHeader: string;
    accept(stream: ByteStream): void;
  };
};

const HEADERS_TIMEOUT_MS = 10_000;
const REQUEST_TIMEOUT_MS = 30_000;
const TLS_TIMEOUT_MS = 10_000;

/** HTTPS, with WebSockets at one path. */
export async function serveHttps(service: SecureService): Promise<Served> {
  const { address, port, key, certificate, answer, sockets, streams: raw } = service;
  const server = createSecureServer(
    {
      key,
      cert: certificate,
      minVersion: "TLSv1.2",
      handshakeTimeout: TLS_TIMEOUT_MS,
      headersTimeout: HEADERS_TIMEOUT_MS,
      requestTimeout: REQUEST_TIMEOUT_MS,
    },
    requestListener(answer),
  );
  server.maxConnections = sockets.connectionsMax;
  const upgrades = new WebSocketServer({
    noServer: true,
    maxPayload: sockets.messageBytesMax,
    perMessageDeflate: false, // the content is ciphertext
    clientTracking: false,
  });
  server.on("upgrade", (request: IncomingMessage, stream: Duplex, head: Buffer) => {
    stream.on("error", () => stream.destroy());
    const path = request.url?.split("?")[0];
    if (raw !== undefined && path === raw.path) {
      upgradeStream(raw, upgrades, request, stream, head);
      return;
    }
    if (path !== sockets.path) {
      stream.end("HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
      return;
    }
    upgrades.handleUpgrade(request, stream, head, (socket) =>
      sockets.accept(adaptSocket(socket), request.socket.remoteAddress ?? ""),
    );
  });
  const streams = trackStreams(server, "secureConnection");
  await listen(server, { host: address, port }).catch(async (error: Failure) => {
    // A machine without IPv6 has no "::"; the other wildcard then means the same.
    if (address !== "::" || !/EAFNOSUPPORT|EADDRNOTAVAIL/.test(error.message)) throw error;
    await listen(server, { host: "0.0.0.0", port });
  });
  return { port: boundPort(server), close: () => closeServer(server, streams) };
}

function boundPort(server: Server): number {
  const bound = server.address();
  return typeof bound === "object" && bound !== null ? bound.port : 0;
}

type Streams = NonNullable<SecureService["streams"]>;

function upgradeStream(
  { protocol, bindingHeader, accept }: Streams,
  upgrades: WebSocketServer,
  request: IncomingMessage,
  stream: Duplex,
  head: Buffer,
): void {
  const remote = plainAddress(request.socket.remoteAddress ?? "");
  if (request.headers.upgrade?.toLowerCase() === "websocket") {
    upgrades.handleUpgrade(request, stream, head, (socket) => accept(adaptMessages(adaptSocket(socket))));
    return;
  }
  if (request.headers.upgrade !== protocol) {
    stream.end("HTTP/1.1 426 Upgrade Required\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    return;
  }
  request.socket.setNoDelay(true);
  stream.write(`HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ${protocol}\r\n\r\n`);
  const binding = request.headers[bindingHeader] === "exporter" ? bindingOf(stream) : undefined;
  accept(adaptStream(stream, remote, binding, head));
}

/** An IPv4 address as a socket of both families shows it, without the ::ffff:. */
const plainAddress = (address: string): string => /^::ffff:(\d+\.\d+\.\d+\.\d+)$/.exec(address)?.[1] ?? address;

/** HTTP without TLS, for what stays on one machine. */
export async function servePlain(address: string, port: number, answer: Answer): Promise<Served> {
  const server = createServer(
    { headersTimeout: HEADERS_TIMEOUT_MS, requestTimeout: REQUEST_TIMEOUT_MS },
    requestListener(answer),
  );
  const streams = trackStreams(server, "connection");
  await listen(server, { host: address, port });
  return { port: boundPort(server), close: () => closeServer(server, streams) };
}

/** HTTP on a Unix socket: who may connect is the file's mode. A stale file is replaced. */
export async function serveUnix(path: string, mode: number, answer: Answer): Promise<Served> {
  const server = createServer(
    { headersTimeout: HEADERS_TIMEOUT_MS, requestTimeout: REQUEST_TIMEOUT_MS },
    requestListener(answer),
  );
  const streams = trackStreams(server, "connection");
  await mkdir(dirname(path), { recursive: true });
  await rm(path, { force: true });
  // Bound with no rights at all, then opened: nobody connects in between.
  const umask = process.umask(0o777);
  const listening = listen(server, { path });
  process.umask(umask);
  await listening;
  await chmod(path, mode);
  return { port: 0, close: () => closeServer(server, streams) };
}

type Listener = (incoming: IncomingMessage, outgoing: ServerResponse) => void;

function requestListener(answer: Answer): Listener {
  const listener = getRequestListener(
    (request, env) => {
      const { incoming } = env;
      return answer(request, { remote: incoming.socket.remoteAddress ?? "" });
    },
    { overrideGlobalObjects: false },
  );
  return (incoming, outgoing) => void listener(incoming, outgoing);
}

function trackStreams(server: Server, event: "connection" | "secureConnection"): Set<Duplex> {
  const streams = new Set<Duplex>();
  server.on(event, (stream: Duplex) => {
    streams.add(stream);
    stream.on("close", () => streams.delete(stream));
  });
  return streams;
}

function listen(server: Server, where: { host: string; port: number } | { path: string }): Promise<void> {
  return new Promise((resolve, reject) => {
    const fail = (cause: Error): void => {
      const name = "path" in where ? where.path : `${where.host} port ${where.port}`;
      reject(new Failure("listen-failed", `cannot listen on ${name}: ${cause.message}`, { cause }));
    };
    server.once("error", fail);
    server.listen(where, () => {
      server.off("error", fail);
      resolve();
    });
  });
}

function closeServer(server: Server, streams: ReadonlySet<Duplex>): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    for (const stream of streams) stream.destroy();
  });
}
