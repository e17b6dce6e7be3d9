import { chmod, mkdir, rm } from "node:fs/promises";
import { connect, createServer, type Socket } from "node:net";
import { dirname } from "node:path";
import { tryJson } from "../kit/json.js";
import type { Millis } from "../kit/time.js";

/** A Unix socket on which one JSON value a line goes each way, in turn. */
const LINE_BYTES_MAX = 1024 * 1024;
const CONNECTIONS_MAX = 32;

/**
 * Serves until the returned function is called. `answer` gets each line's JSON (undefined when it is none) and
 * its result is written back; a line over the limit ends the connection.
 */
export async function serveLines(
  path: string,
  mode: number,
  answer: (value: unknown) => Promise<unknown>,
): Promise<() => Promise<void>> {
  await mkdir(dirname(path), { recursive: true });
  await rm(path, { force: true });
  const open = new Set<Socket>();
  const server = createServer((socket) => {
    open.add(socket);
    socket.on("close", () => open.delete(socket));
    socket.on("error", () => socket.destroy());
    let turn = Promise.resolve();
    onLines(socket, (line) => {
      turn = turn.then(async () => {
        const reply = `${JSON.stringify(await answer(tryJson(line)))}\n`;
        if (socket.writable) socket.write(reply);
      });
    });
  });
  server.maxConnections = CONNECTIONS_MAX;
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(path, resolve);
  });
  await chmod(path, mode);
  return async () => {
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    for (const socket of open) socket.end();
    await closed;
    await rm(path, { force: true });
  };
}

/** Asks once; undefined when nobody listens at the path. */
export async function askLine(path: string, request: unknown, timeoutMs: Millis): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    const timer = setTimeout(() => {
      socket.destroy();
      reject(new Error(`no answer on ${path} within ${timeoutMs} ms`));
    }, timeoutMs);
    const finish = (act: () => void): void => {
      clearTimeout(timer);
      socket.destroy();
      act();
    };
    socket.on("connect", () => socket.write(`${JSON.stringify(request)}\n`));
    socket.on("error", (error: NodeJS.ErrnoException) => {
      const absent = error.code === "ENOENT" || error.code === "ECONNREFUSED";
      finish(() => (absent ? resolve(undefined) : reject(error)));
    });
    socket.on("close", () => finish(() => reject(new Error(`${path} closed without an answer`))));
    onLines(socket, (line) => finish(() => resolve(tryJson(line))));
  });
}

function onLines(socket: Socket, take: (line: string) => void): void {
  let rest = "";
  socket.setEncoding("utf8");
  socket.on("data", (chunk: string) => {
    const lines = (rest + chunk).split("\n");
    rest = lines.pop() ?? "";
    if (rest.length > LINE_BYTES_MAX) socket.destroy();
    else for (const line of lines) take(line);
  });
}
