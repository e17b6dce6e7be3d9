import { request } from "node:http";
import { Failure } from "../kit/failure.js";
import type { Millis } from "../kit/time.js";

export type UnixRequest = {
  readonly socket: string;
  readonly method: string;
  readonly path: string;
  readonly body?: string;
  readonly timeoutMs: Millis;
};

/** One HTTP request to a service on a Unix socket; a status of any kind is a reply. */
export function requestUnix({ socket, method, path, body, timeoutMs }: UnixRequest): Promise<{
  readonly status: number;
  readonly body: string;
}> {
  return new Promise((resolve, reject) => {
    const fail = (cause: Error): void => {
      const code = "code" in cause ? cause.code : undefined;
      const reason = code === "ENOENT" || code === "ECONNREFUSED" ? "nothing listens there" : cause.message;
      reject(new Failure("socket-unreachable", `cannot reach ${socket}: ${reason}`, { cause }));
    };
    const sent = request({ socketPath: socket, method, path, signal: AbortSignal.timeout(timeoutMs) }, (response) => {
      let text = "";
      response.setEncoding("utf8");
      response.on("data", (chunk: string) => {
        text += chunk;
      });
      response.on("end", () => resolve({ status: response.statusCode ?? 0, body: text }));
      response.on("error", fail);
    });
    sent.on("error", fail);
    sent.end(body);
  });
}
