import { open } from "node:fs/promises";
import type { ClientRequest, IncomingMessage } from "node:http";
import { Agent, request as httpsRequest } from "node:https";
import { isIP } from "node:net";
import type { Duplex } from "node:stream";
import { connect, type TLSSocket } from "node:tls";
import { Failure } from "../kit/failure.js";
import type { Millis } from "../kit/time.js";

/**
 * HTTPS to a server whose certificate is known by its SHA-256 fingerprint instead of by an authority, as a Proxmox
 * host's is. The certificate is compared after the handshake and before the first byte of HTTP is written.
 *
 * Failures with no whole request sent: `unreachable`, `fingerprint-mismatch`, `cancelled`, `file-unreadable`,
 * `file-changed`. Failures after which the server may have acted: `connection-lost`, `deadline-exceeded`,
 * `cancelled-midway`, `response-too-large`.
 */
export interface Https {
  /** One attempt. A status code of any kind is a reply. */
  request(request: HttpsRequest): Promise<HttpsReply>;
  /** The fingerprint a server shows now: for a person to compare before it is pinned. */
  peerFingerprint(url: string, options?: { deadlineMs?: Millis; signal?: AbortSignal }): Promise<string>;
  close(): void;
}

export type HttpsRequest = {
  readonly method: string;
  readonly url: string;
  /** Colon-separated upper-case hex. */
  readonly fingerprint: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: readonly BodyPart[];
  /** May use a connection that was kept open. Not for writes: a stale one loses the request without a trace. */
  readonly pooled?: boolean;
  /** From the first packet of the connection to the last byte of the body. */
  readonly deadlineMs?: Millis;
  readonly signal?: AbortSignal;
  readonly responseBytesMax?: number;
  readonly onSent?: (bytes: number) => void;
};

/** A body has a known length: Content-Length is always sent, chunks never. */
export type BodyPart = Uint8Array | { readonly path: string; readonly sizeBytes: number };

export type HttpsReply = {
  readonly status: number;
  readonly reason: string;
  readonly body: string;
  /** The Date header as it came. */
  readonly date?: string;
};

/** A Proxmox host delays every 401 by 3 s; a busy one takes some seconds more. */
const HTTPS_DEADLINE_MS: Millis = 30_000;
/** The list of a node's packages is about 2 MB; nothing we ask for comes near this. */
const RESPONSE_BYTES_MAX = 16 * 1024 * 1024;
/** Connections kept per host between reads; Proxmox closes them after 5 s of silence, so we do after 4. */
const POOLED_SOCKETS_MAX = 2;
const POOLED_IDLE_MS: Millis = 4_000;

export function openHttps(): Https {
  const pools = new Map<string, PinnedAgent>();
  return {
    request(request) {
      if (!request.pooled) return send(request, new PinnedAgent(request.fingerprint, false));
      const pool = pools.get(request.fingerprint) ?? new PinnedAgent(request.fingerprint, true);
      pools.set(request.fingerprint, pool);
      return send(request, pool);
    },
    async peerFingerprint(url, options = {}) {
      const socket = connect(tlsTarget(new URL(url)));
      try {
        return await shownBy(socket, url, options.deadlineMs ?? HTTPS_DEADLINE_MS, options.signal);
      } finally {
        socket.destroy();
      }
    },
    close() {
      for (const pool of pools.values()) pool.destroy();
      pools.clear();
    },
  };
}

/** Hands a socket to node's HTTP client only once its certificate is the pinned one. */
class PinnedAgent extends Agent {
  readonly #fingerprint: string;

  constructor(fingerprint: string, keepAlive: boolean) {
    super(keepAlive ? { keepAlive, maxFreeSockets: POOLED_SOCKETS_MAX, timeout: POOLED_IDLE_MS } : { keepAlive });
    this.#fingerprint = fingerprint;
  }

  override createConnection(
    options: { host?: string; port?: number | string },
    created: (error: Error | null, socket: Duplex) => void,
  ): undefined {
    const target = new URL(`https://${bracketed(options.host ?? "")}:${options.port ?? 443}`);
    const socket = connect(tlsTarget(target));
    const fail = (error: Error): void => {
      socket.destroy();
      created(unreachable(target.host, error), socket);
    };
    socket.once("error", fail);
    socket.once("secureConnect", () => {
      socket.removeListener("error", fail);
      const seen = socket.getPeerCertificate().fingerprint256;
      if (seen === this.#fingerprint) return created(null, socket);
      socket.on("error", ignoreAfterDestroy).destroy();
      created(mismatch(target.host, this.#fingerprint, seen), socket);
    });
  }
}

/** The certificate is checked by fingerprint, so neither its issuer nor its names count. */
function tlsTarget(url: URL) {
  const host = url.hostname.replace(/^\[|\]$/g, "");
  const servername = isIP(host) === 0 ? { servername: host } : {};
  return { host, port: Number(url.port || 443), rejectUnauthorized: false, ...servername };
}

const bracketed = (host: string): string => (isIP(host) === 6 ? `[${host}]` : host);

function send(request: HttpsRequest, agent: PinnedAgent): Promise<HttpsReply> {
  const url = new URL(request.url);
  const body = request.body ?? [];
  const length = body.reduce((sum, part) => sum + sizeOf(part), 0);
  const sendsBody = length > 0 || !/^(GET|DELETE|HEAD)$/.test(request.method);
  return new Promise((resolve, reject) => {
    const outgoing = httpsRequest({
      agent,
      method: request.method,
      host: url.hostname.replace(/^\[|\]$/g, ""),
      port: url.port || 443,
      path: url.pathname + url.search,
      headers: { ...request.headers, ...(sendsBody ? { "content-length": String(length) } : {}) },
    });
    const settle = (act: () => void): void => {
      clearTimeout(timer);
      request.signal?.removeEventListener("abort", cancel);
      act();
      if (!request.pooled) agent.destroy();
    };
    const fail = (failure: Error): void => {
      outgoing.destroy();
      settle(() => reject(failure));
    };
    let sending = false;
    let replying = false;
    const deadlineMs = request.deadlineMs ?? HTTPS_DEADLINE_MS;
    const timer = setTimeout(() => fail(late(url.host, deadlineMs, sending)), deadlineMs);
    const cancel = (): void =>
      fail(new Failure(sending ? "cancelled-midway" : "cancelled", `the request to ${url.host} was cancelled`));
    request.signal?.addEventListener("abort", cancel);
    outgoing.once("socket", () => {
      sending = true;
    });
    outgoing.on("error", (error) => {
      // A server that refuses an upload answers and closes while we still send: the answer counts, not the reset.
      if (!replying) fail(error instanceof Failure ? error : lost(url.host, error));
    });
    outgoing.on("response", (incoming) => {
      replying = true;
      receive(incoming, request.responseBytesMax ?? RESPONSE_BYTES_MAX).then(
        (reply) => settle(() => resolve(reply)),
        (error: Error) => fail(error instanceof Failure ? error : lost(url.host, error)),
      );
    });
    if (request.signal?.aborted) return cancel();
    sendBody(outgoing, body, request.onSent).catch((error: Error) => {
      if (!replying) fail(error instanceof Failure ? error : lost(url.host, error));
    });
  });
}

const sizeOf = (part: BodyPart): number => (part instanceof Uint8Array ? part.length : part.sizeBytes);

async function sendBody(
  outgoing: ClientRequest,
  body: readonly BodyPart[],
  onSent?: (bytes: number) => void,
): Promise<void> {
  let sent = 0;
  let stop: (error: Error) => void = () => {};
  // The callback of write() never comes once the socket is gone; the file must be closed then all the same.
  outgoing.once("close", () => stop(new Error("closed while sending")));
  const write = (chunk: Uint8Array): Promise<void> =>
    new Promise((resolve, reject) => {
      stop = reject;
      if (outgoing.destroyed) return reject(new Error("closed while sending"));
      outgoing.write(chunk, (error) => (error ? reject(error) : resolve()));
      sent += chunk.length;
    });
  for (const part of body) {
    if (part instanceof Uint8Array) await write(part);
    else {
      let left = part.sizeBytes;
      const file = await open(part.path).catch((cause: Error) => {
        throw new Failure("file-unreadable", `cannot read ${part.path}: ${reasonOf(cause)}`, { cause });
      });
      for await (const chunk of file.createReadStream() as AsyncIterable<Uint8Array>) {
        left -= chunk.length;
        if (left < 0) break;
        await write(chunk);
        onSent?.(sent);
      }
      if (left !== 0) throw new Failure("file-changed", `${part.path} is no longer ${part.sizeBytes} bytes long`);
    }
  }
  outgoing.end();
}

async function receive(incoming: IncomingMessage, bytesMax: number): Promise<HttpsReply> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of incoming as AsyncIterable<Uint8Array>) {
    length += chunk.length;
    if (length > bytesMax) throw new Failure("response-too-large", `the answer is longer than ${bytesMax} bytes`);
    chunks.push(chunk);
  }
  return {
    status: incoming.statusCode ?? 0,
    reason: incoming.statusMessage ?? "",
    body: Buffer.concat(chunks).toString("utf8"),
    ...(incoming.headers.date === undefined ? {} : { date: incoming.headers.date }),
  };
}

function shownBy(socket: TLSSocket, url: string, deadlineMs: Millis, signal?: AbortSignal): Promise<string> {
  const { host } = new URL(url);
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => done(() => reject(late(host, deadlineMs, false))), deadlineMs);
    const cancel = (): void => done(() => reject(new Failure("cancelled", `the connection to ${host} was cancelled`)));
    const done = (act: () => void): void => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", cancel);
      act();
    };
    signal?.addEventListener("abort", cancel);
    socket.on("error", (error) => done(() => reject(unreachable(host, error))));
    socket.once("secureConnect", () => done(() => resolve(socket.getPeerCertificate().fingerprint256)));
    if (signal?.aborted) cancel();
  });
}

function ignoreAfterDestroy(): void {}

function unreachable(host: string, cause: Error): Failure {
  return new Failure("unreachable", `cannot reach ${host}: ${reasonOf(cause)}`, { cause });
}

function lost(host: string, cause: Error): Failure {
  return new Failure("connection-lost", `the connection to ${host} broke: ${reasonOf(cause)}`, { cause });
}

function late(host: string, deadlineMs: Millis, sent: boolean): Failure {
  const words = `${host} did not answer within ${deadlineMs / 1_000} s`;
  return new Failure(sent ? "deadline-exceeded" : "unreachable", words);
}

function mismatch(host: string, pinned: string, seen: string): Failure {
  return new Failure("fingerprint-mismatch", `${host} shows the certificate ${seen}, expected ${pinned}`, {
    advice: `if the certificate was renewed, compare it on the host, then: exitnode host add <name> --url https://${host}`,
  });
}

const REASONS: Record<string, string> = {
  ECONNREFUSED: "connection refused (is the port right?)",
  ENOTFOUND: "the name does not resolve",
  EAI_AGAIN: "the name does not resolve (no name server answers)",
  EHOSTUNREACH: "no route to the host",
  ENETUNREACH: "no route to the network",
  ECONNRESET: "connection reset",
  EPROTO: "it does not speak TLS",
};

function reasonOf(error: Error): string {
  return ("code" in error && REASONS[String(error.code)]) || error.message;
}
