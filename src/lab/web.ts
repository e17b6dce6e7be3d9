import { createCipheriv, createHash } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { Failure } from "../kit/failure.js";

/**
 * The lab's web servers.
 *
 *   whoami.lab    GET /            the caller's address and a newline
 *   download.lab  GET /bytes/N     N bytes, always the same ones
 *                 GET /sha256/N    what those bytes hash to, in hex and a newline
 *   nas.home      GET /            a page, for seeing whether the home LAN is reachable
 */

/** 4 GiB: longer than any measurement needs. */
const DOWNLOAD_BYTES_MAX = 4 * 1024 ** 3;
const CHUNK_BYTES = 64 * 1024;
const CONNECTIONS_MAX = 256;

type Answer = (request: IncomingMessage, response: ServerResponse, signal: AbortSignal) => Promise<void> | void;

export const serveWeb = (port: number, signal: AbortSignal): Promise<void> => serve(answerWeb, port, signal);

export const serveHomeServer = (port: number, signal: AbortSignal): Promise<void> =>
  serve((_, response) => sendText(response, 200, "the home server: you are in the home network\n"), port, signal);

async function answerWeb(request: IncomingMessage, response: ServerResponse, signal: AbortSignal): Promise<void> {
  const path = (request.url ?? "/").split("?")[0] ?? "/";
  if (path === "/") return sendText(response, 200, `${callerOf(request)}\n`);
  const [, what, digits = ""] = /^\/(bytes|sha256)\/(\d{1,10})$/.exec(path) ?? [];
  const length = Number(digits);
  if (what === undefined) return sendText(response, 404, "not found: GET /, /bytes/N or /sha256/N\n");
  if (length > DOWNLOAD_BYTES_MAX) return sendText(response, 400, `at most ${DOWNLOAD_BYTES_MAX} bytes\n`);
  if (what === "sha256") {
    const hash = createHash("sha256");
    for await (const chunk of download(length)) {
      if (signal.aborted || response.destroyed) return;
      hash.update(chunk);
    }
    return sendText(response, 200, `${hash.digest("hex")}\n`);
  }
  response.writeHead(200, { "content-type": "application/octet-stream", "content-length": length });
  for await (const chunk of download(length)) {
    if (signal.aborted || response.destroyed) break;
    if (!response.write(chunk)) await Promise.race([once(response, "drain"), once(response, "close")]);
  }
  response.end();
}

/**
 * The bytes of a download: one block of keystream, with the block's number in its first eight bytes, so that a block
 * lost, doubled or out of place changes the digest; and cheap, so that the network is what is measured.
 */
export async function* download(length: number): AsyncGenerator<Uint8Array> {
  const pattern = createCipheriv("aes-256-ctr", Buffer.alloc(32), Buffer.alloc(16)).update(Buffer.alloc(CHUNK_BYTES));
  for (let block = 0; block * CHUNK_BYTES < length; block++) {
    const chunk = Buffer.from(pattern);
    chunk.writeBigUInt64BE(BigInt(block));
    yield chunk.subarray(0, Math.min(CHUNK_BYTES, length - block * CHUNK_BYTES));
    // Others are served between the blocks even when nobody makes us wait.
    if (block % 64 === 63) await new Promise<void>((resolve) => setImmediate(resolve));
  }
}

/** RFC 4291 §2.5.5.2: IPv4 on a socket of both families is shown as IPv6. */
const callerOf = (request: { readonly socket: { readonly remoteAddress?: string | undefined } }): string =>
  (request.socket.remoteAddress ?? "").replace(/^::ffff:/, "");

function sendText(response: ServerResponse, status: number, text: string): void {
  response.writeHead(status, { "content-type": "text/plain; charset=utf-8", "content-length": text.length });
  response.end(text);
}

/** Serves on IPv4 and IPv6 until the signal. */
async function serve(answer: Answer, port: number, signal: AbortSignal): Promise<void> {
  const server = createServer((request, response) => {
    if (request.method !== "GET" && request.method !== "HEAD") {
      response.setHeader("allow", "GET, HEAD");
      return sendText(response, 405, "only GET\n");
    }
    Promise.resolve(answer(request, response, signal)).catch(() => response.destroy());
  });
  server.maxConnections = CONNECTIONS_MAX;
  server.listen(port, "::");
  await once(server, "listening").catch((cause: unknown) => {
    throw new Failure("lab-serve", `cannot listen on port ${port}`, {
      cause,
      advice: "exitnode lab down && exitnode lab up",
    });
  });
  if (!signal.aborted) await once(signal, "abort");
  server.closeAllConnections();
  await new Promise<void>((resolve) => server.close(() => resolve()));
}
