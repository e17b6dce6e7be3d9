import { X509Certificate } from "node:crypto";
import type { IncomingMessage } from "node:http";
import { createServer, type Server } from "node:https";
import type { AddressInfo, Socket } from "node:net";
import selfsigned from "selfsigned";

/** What the host does with one request: an answer, or the ways a connection goes wrong. */
export type Act =
  | { readonly status: number; readonly reason?: string; readonly body?: string }
  | { readonly data: unknown; readonly date?: string }
  /** The connection is reset once the whole request has arrived. */
  | "reset"
  /** Nothing is ever answered. */
  | "silence";

export type Seen = {
  readonly method: string;
  readonly path: string;
  readonly query: string;
  readonly headers: IncomingMessage["headers"];
  readonly body: Buffer;
};

/** A host on loopback with a certificate of its own: it keeps what arrived and answers as it is told. */
export type FakeHost = {
  readonly url: string;
  readonly fingerprint: string;
  readonly seen: Seen[];
  /** Bytes of HTTP that came out of TLS, whether or not they made a request. */
  plainBytes(): number;
  /** TLS connections made so far. */
  connections(): number;
  answer: (request: Seen) => Act;
  close(): Promise<void>;
};

const made = selfsigned.generate([{ name: "commonName", value: "pve1.test" }], { keyType: "ec" });

export async function startFakeHost(answer: (request: Seen) => Act): Promise<FakeHost> {
  const { private: key, cert } = await made;
  const seen: Seen[] = [];
  const sockets = new Set<Socket>();
  let plainBytes = 0;
  const server: Server = createServer({ key, cert }, (request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const [path = "", query = ""] = (request.url ?? "").split("?");
      const one = { method: request.method ?? "", path, query, headers: request.headers, body: Buffer.concat(chunks) };
      seen.push(one);
      const act = host.answer(one);
      if (act === "silence") return;
      if (act === "reset") {
        request.socket.destroy();
        return;
      }
      if ("data" in act && act.date !== undefined) response.setHeader("date", act.date);
      const { status, reason, body } =
        "data" in act ? { status: 200, reason: "OK", body: JSON.stringify({ data: act.data }) } : act;
      response.writeHead(status, reason ?? "", { "content-type": "application/json" }).end(body ?? "");
    });
  });
  server.on("secureConnection", (socket) => {
    sockets.add(socket);
    socket.on("data", (chunk: Buffer) => {
      plainBytes += chunk.length;
    });
    socket.on("error", () => socket.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const host: FakeHost = {
    url: `https://127.0.0.1:${(server.address() as AddressInfo).port}`,
    fingerprint: new X509Certificate(cert).fingerprint256,
    seen,
    plainBytes: () => plainBytes,
    connections: () => sockets.size,
    answer,
    async close() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  return host;
}
