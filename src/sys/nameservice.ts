import { createSocket, type Socket as UdpSocket } from "node:dgram";
import { connect, createServer, type Server, type Socket } from "node:net";
import type { Endpoint } from "../kit/endpoint.js";
import { Failure } from "../kit/failure.js";
import { type Family, familyOf, type Ip } from "../kit/ip.js";
import type { Millis } from "../kit/time.js";
import { boundPort, closeServer, listen, type Served, trackStreams } from "./listening.js";

/** DNS messages over UDP and TCP (RFC 1035 §4.2): served on loopback, and asked of one server. Messages are bytes. */
export type NameTransport = "udp" | "tcp";

/** Undefined: no answer is given. */
export type AnswerName = (query: Uint8Array, over: NameTransport) => Promise<Uint8Array | undefined>;

export type AskOptions = {
  readonly over: NameTransport;
  /** The address to ask from; the kernel's choice without it. */
  readonly from?: Ip | undefined;
  readonly timeoutMs: Millis;
  /** What is no reply is waited past. */
  isReply(message: Uint8Array): boolean;
};

export interface NameService {
  /** One port, on loopback of both families. */
  serve(answer: AnswerName): Promise<Served>;
  /** Undefined: no reply in time, or no way there. Each question has a socket, and so a port, of its own. */
  ask(server: Endpoint, query: Uint8Array, options: AskOptions): Promise<Uint8Array | undefined>;
}

const LOOPBACK: { readonly [family in Family]: string } = { 4: "127.0.0.1", 6: "::1" };
/** Conversations over TCP at once; the kernel refuses further ones. */
const CONVERSATIONS_MAX = 64;
/** RFC 7766 §6.2.3 leaves it to the server; a stub asks again at once or not at all. */
const IDLE_MS: Millis = 10_000;
const MESSAGE_BYTES_MAX = 65_535;
/** Tries at a port that is free for all sockets. */
const PORT_ATTEMPTS = 16;

export const localNameService: NameService = {
  async serve(answer) {
    for (let attempt = 1; ; attempt++) {
      const opened: { close(): Promise<void> }[] = [];
      const close = async (): Promise<void> => void (await Promise.all(opened.map((one) => one.close())));
      try {
        let port = 0;
        for (const family of [4, 6] as const) {
          const udp = await serveUdp(family, port, answer);
          if (udp === undefined) continue;
          opened.push(udp);
          port = udp.port;
          opened.push(await serveTcp(family, port, answer));
        }
        return { port, close };
      } catch (error) {
        await close();
        if (attempt === PORT_ATTEMPTS) throw error;
      }
    }
  },

  ask(server, query, options) {
    return options.over === "udp" ? askUdp(server, query, options) : askTcp(server, query, options);
  },
};

/** Undefined when the machine does not speak the family. */
function serveUdp(family: Family, port: number, answer: AnswerName): Promise<Served | undefined> {
  const socket = udpSocket(family);
  return new Promise((resolve, reject) => {
    socket.once("error", (cause: NodeJS.ErrnoException) => {
      socket.close();
      if (cause.code === "EAFNOSUPPORT" || cause.code === "EADDRNOTAVAIL") resolve(undefined);
      else reject(new Failure("listen-failed", `cannot listen on ${LOOPBACK[family]} UDP port ${port}`, { cause }));
    });
    socket.bind({ port, address: LOOPBACK[family], exclusive: true }, () => {
      socket.removeAllListeners("error");
      socket.on("error", () => undefined); // of one datagram
      let isOpen = true;
      socket.on("message", async (query, from) => {
        const reply = await answer(new Uint8Array(query), "udp");
        if (reply !== undefined && isOpen) socket.send(reply, from.port, from.address, () => undefined);
      });
      const close = async (): Promise<void> => {
        isOpen = false;
        socket.close();
      };
      resolve({ port: socket.address().port, close });
    });
  });
}

async function serveTcp(family: Family, port: number, answer: AnswerName): Promise<Served> {
  const server: Server = createServer((socket) => {
    socket.on("error", () => socket.destroy());
    socket.setTimeout(IDLE_MS, () => socket.destroy());
    let turn = Promise.resolve();
    onMessages(socket, (query) => {
      // One after the other: whoever sends many without reading is stopped by its own window.
      socket.pause();
      turn = turn.then(async () => {
        const reply = await answer(query, "tcp");
        if (reply !== undefined && socket.writable) socket.write(framed(reply));
        socket.resume();
      });
    });
  });
  server.maxConnections = CONVERSATIONS_MAX;
  const open = trackStreams(server);
  await listen(server, { host: LOOPBACK[family], port });
  return { port: boundPort(server), close: () => closeServer(server, open) };
}

function askUdp(server: Endpoint, query: Uint8Array, options: AskOptions): Promise<Uint8Array | undefined> {
  const socket = udpSocket(familyOf(server.address));
  return new Promise((resolve) => {
    let isOver = false;
    const end = (reply: Uint8Array | undefined): void => {
      if (isOver) return;
      isOver = true;
      clearTimeout(timer);
      socket.close();
      resolve(reply);
    };
    const timer = setTimeout(() => end(undefined), options.timeoutMs);
    socket.on("error", () => end(undefined));
    socket.on("message", (message) => {
      const reply = new Uint8Array(message);
      if (options.isReply(reply)) end(reply);
    });
    // Connected: the kernel drops what comes from elsewhere, and tells of a port that nobody listens on.
    const go = (): void => socket.connect(server.port, server.address, () => socket.send(query, () => undefined));
    if (options.from === undefined) go();
    else socket.bind({ address: options.from, port: 0 }, go);
  });
}

function askTcp(server: Endpoint, query: Uint8Array, options: AskOptions): Promise<Uint8Array | undefined> {
  const { from, timeoutMs } = options;
  const socket = connect({
    ...{ host: server.address, port: server.port },
    ...(from === undefined ? {} : { localAddress: from }),
  });
  return new Promise((resolve) => {
    const finish = (reply: Uint8Array | undefined): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve(reply);
    };
    const timer = setTimeout(() => finish(undefined), timeoutMs);
    socket.on("error", () => finish(undefined));
    socket.on("close", () => finish(undefined));
    socket.on("connect", () => socket.write(framed(query)));
    onMessages(socket, (message) => {
      if (options.isReply(message)) finish(message);
    });
  });
}

const udpSocket = (family: Family): UdpSocket =>
  createSocket({ type: family === 4 ? "udp4" : "udp6", ipv6Only: family === 6 });

function framed(message: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(2 + message.length);
  bytes[0] = message.length >> 8;
  bytes[1] = message.length & 0xff;
  bytes.set(message, 2);
  return bytes;
}

function onMessages(socket: Socket, take: (message: Uint8Array) => void): void {
  let rest = Buffer.alloc(0);
  socket.on("data", (chunk) => {
    rest = Buffer.concat([rest, chunk]);
    while (rest.length >= 2 && rest.length >= 2 + rest.readUInt16BE(0)) {
      const end = 2 + rest.readUInt16BE(0);
      take(new Uint8Array(rest.subarray(2, end)));
      rest = rest.subarray(end);
    }
    if (rest.length > 2 + MESSAGE_BYTES_MAX) socket.destroy();
  });
}
