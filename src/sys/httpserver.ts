import { chmod, mkdir, rm } from "node:fs/promises";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer as createSecureServer } from "node:https";
import { dirname } from "node:path";
import type { Duplex } from "node:stream";
import { getRequestListener } from "@hono/node-server";
import { WebSocketServer } from "ws";
import type { Millis } from "../kit/time.js";
import { queueHandshakes } from "./handshakes.js";
import { boundPort, closeServer, listen, listenOn, type Served, trackStreams } from "./listening.js";
import { refuseUpgrade, type Streams, upgradeStream } from "./streamserver.js";
import { adaptSocket, type BinarySocket } from "./websocket.js";

export type { Served } from "./listening.js";

/** Answers one HTTP request; `remote` is the address of the other end, empty on a Unix socket. */
export type Answer = (request: Request, caller: { readonly remote: string }) => Response | Promise<Response>;

export type RemoteOf = (remote: string, forwarded: string | undefined) => string;

export type SecureService = {
  readonly address: string;
  readonly port: number;
  readonly key: string;
  readonly certificate: string;
  readonly answer: Answer;
  /** Whom a connection speaks for; `forwarded` is its X-Forwarded-For. Left out: for itself. */
  readonly remoteOf?: RemoteOf;
  readonly sockets: {
    readonly path: string;
    readonly messageBytesMax: number;
    /** Of all kinds; further ones are turned away until some end. */
    readonly connectionsMax: number;
    accept(socket: BinarySocket, remote: string): void;
  };
  readonly streams?: Streams;
};

const HEADERS_TIMEOUT_MS = 10_000;
const REQUEST_TIMEOUT_MS = 30_000;

/** HTTPS, with WebSockets at one path. */
export async function serveHttps(service: SecureService): Promise<Served> {
  const { address, port, key, certificate, answer, sockets, streams: raw } = service;
  const remoteOf = service.remoteOf ?? asConnected;
  const server = createSecureServer(
    {
      key,
      cert: certificate,
      minVersion: "TLSv1.2",
      headersTimeout: HEADERS_TIMEOUT_MS,
      requestTimeout: REQUEST_TIMEOUT_MS,
    },
    requestListener(answer, remoteOf),
  );
  server.on("clientError", refuseBroken);
  server.on("secureConnection", queueHandshakes(server, sockets.connectionsMax));
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
      sockets.accept(adaptSocket(socket), remoteFrom(request, remoteOf)),
    );
  });
  const streams = trackStreams(server);
  await listenOn(server, address, port);
  return { port: boundPort(server), close: () => closeServer(server, streams) };
}

/** HTTP on a Unix socket: who may connect is the file's mode. A stale file is replaced. */
export async function serveUnix(path: string, mode: number, answer: Answer): Promise<Served> {
  const server = createServer(
    { headersTimeout: HEADERS_TIMEOUT_MS, requestTimeout: REQUEST_TIMEOUT_MS },
    requestListener(answer, asConnected),
  );
  server.on("clientError", refuseBroken);
  const streams = trackStreams(server);
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

const asConnected: RemoteOf = (remote) => remote;

function requestListener(answer: Answer, remoteOf: RemoteOf): Listener {
  const listener = getRequestListener(
    (request, env) => answer(request, { remote: remoteFrom(env.incoming as IncomingMessage, remoteOf) }),
    {
      overrideGlobalObjects: false,
      errorHandler: () =>
        new Response(BROKEN, { status: 400, headers: { "content-type": "application/problem+json" } }),
    },
  );
  return (incoming, outgoing) => void listener(incoming, outgoing);
}

function remoteFrom({ socket, headers }: IncomingMessage, remoteOf: RemoteOf): string {
  const forwarded = headers["x-forwarded-for"];
  return remoteOf(socket.remoteAddress ?? "", Array.isArray(forwarded) ? forwarded.join(",") : forwarded);
}

const brokenBody = (status: number, detail: string): string =>
  JSON.stringify({ type: "about:blank", status, title: "message-invalid", detail, code: "message-invalid" });
const BROKEN = brokenBody(400, "the request is no HTTP that this server takes");

/** For the answer to be read, by whoever is still sending, before the connection ends. */
const LAST_WORD_MS: Millis = 1_000;

/** What never becomes a request is answered as every other mistake is (RFC 9457), and its connection ends. */
function refuseBroken(error: Error, stream: Duplex): void {
  // The rest of what was answered.
  if (stream.writableEnded) return;
  const isLong = "code" in error && error.code === "HPE_HEADER_OVERFLOW";
  const [status, reason] = isLong ? [431, "Request Header Fields Too Large"] : [400, "Bad Request"];
  const body = isLong ? brokenBody(status, "the request's headers are too long") : BROKEN;
  if (!stream.writable) return void stream.destroy();
  stream.end(
    `HTTP/1.1 ${status} ${reason}\r\nContent-Type: application/problem+json\r\n` +
      `Content-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
  );
  setTimeout(() => stream.destroy(), LAST_WORD_MS).unref();
}
