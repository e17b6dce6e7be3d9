import type { Server } from "node:net";
import type { Duplex } from "node:stream";
import { Failure } from "../kit/failure.js";

/** What every server of ours does with its port. */
export type Served = {
  /** 0 on a Unix socket. */
  readonly port: number;
  /** Stops listening and cuts what is open. */
  close(): Promise<void>;
};

/** The server's open connections, for as long as they are: also those whose TLS handshake is under way. */
export function trackStreams(server: Server): Set<Duplex> {
  const streams = new Set<Duplex>();
  function closed(this: Duplex): void {
    streams.delete(this);
  }
  server.on("connection", (stream: Duplex) => {
    streams.add(stream);
    stream.on("close", closed);
  });
  return streams;
}

export function listen(server: Server, where: { host: string; port: number } | { path: string }): Promise<void> {
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

/** On one address; a machine without IPv6 has no "::", and the other wildcard then means the same. */
export async function listenOn(server: Server, address: string, port: number): Promise<void> {
  await listen(server, { host: address, port }).catch(async (error: Failure) => {
    if (address !== "::" || !/EAFNOSUPPORT|EADDRNOTAVAIL/.test(error.message)) throw error;
    await listen(server, { host: "0.0.0.0", port });
  });
}

export function boundPort(server: Server): number {
  const bound = server.address();
  return typeof bound === "object" && bound !== null ? bound.port : 0;
}

export function closeServer(server: Server, streams: ReadonlySet<Duplex>): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    for (const stream of streams) stream.destroy();
  });
}
