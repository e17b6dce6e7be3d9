import { chmod, mkdir, rm } from "node:fs/promises";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer as createSecureServer } from "node:https";
import { dirname } from "node:path";
import type { Duplex } from "node:stream";
import { getRequestListener } from "@hono/node-server";
import { WebSocketServer } from "ws";
import { boundPort, closeServer, listen, listenOn, type Served, trackStreams } from "./listening.js";
import { refuseUpgrade, type Streams, upgradeStream } from "./streamserver.js";
import { adaptSocket, type BinarySocket } from "./websocket.js";

export type { Served } from "./listening.js";

/** Answers one HTTP request; `remote` is the address of the other end, empty on a Unix socket. */
export type Answer = (request: Request, caller: { readonly remote: string }) => Response | Promise<Response>;

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
  readonly streams?: Streams;
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
      upgradeStream(raw, request, stream, head);
      return;
    }
    if (path !== sockets.path) {
      refuseUpgrade(stream, "404 Not Found");
      return;
    }
    upgrades.handleUpgrade(request, stream, head, (socket) =>
      sockets.accept(adaptSocket(socket), request.socket.remoteAddress ?? ""),
    );
  });
  const streams = trackStreams(server, "secureConnection");
  await listenOn(server, address, port);
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
