import { Agent, request } from "node:https";
import { connect } from "node:tls";

/** HTTP to a coordinator's API with everything in a test's hands: headers, raw bytes, paths that no client would send. */

export type Asked = {
  readonly method: string;
  /** Sent as it stands. */
  readonly path: string;
  readonly token?: string | undefined;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Uint8Array | undefined;
};
export type Answered = {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly text: string;
};

/** A kept connection ends here first: the server ends it after five seconds, maybe in the moment of the next request. */
const KEPT_MS = 2_000;
const agent = new Agent({ keepAlive: true, maxSockets: 4, timeout: KEPT_MS, rejectUnauthorized: false });

/** Ends the connections that were kept. */
export const stopAsking = (): void => agent.destroy();

export function ask(port: number, { method, path, token, headers, body }: Asked): Promise<Answered> {
  return new Promise((resolve, reject) => {
    const sent = request(
      {
        ...{ host: "127.0.0.1", port, method, path, agent },
        headers: { ...(token === undefined ? {} : { authorization: `Bearer ${token}` }), ...headers },
      },
      (response) => {
        let text = "";
        response.setEncoding("utf8");
        response.on("data", (chunk: string) => {
          text += chunk;
        });
        response.on("end", () => resolve({ status: response.statusCode ?? 0, headers: response.headers, text }));
        response.on("error", reject);
      },
    );
    sent.on("error", reject);
    sent.end(body);
  });
}

/** Bytes straight into a TLS connection, and all that comes back until it ends. */
export async function shout(port: number, bytes: string): Promise<string> {
  const socket = connect({ host: "127.0.0.1", port, rejectUnauthorized: false });
  socket.write(bytes);
  let text = "";
  for await (const chunk of socket) text += String(chunk);
  return text;
}
