import { request as httpRequest } from "node:http";
import type { Ip } from "../kit/ip.js";
import type { Millis } from "../kit/time.js";

export type PlainRequest = {
  readonly method: "GET" | "POST";
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
};
export type PlainAnswer = { readonly status: number; readonly body: string };
export type PlainLimits = { readonly timeoutMs: Millis; readonly bytesMax: number };

/**
 * One exchange of unencrypted HTTP from the given address of this machine, as routers speak it. Undefined when it has
 * not ended in time or is longer than it may be. No redirection is followed: the caller chose whom to ask.
 */
export function plainHttp(
  { method, url, headers, body }: PlainRequest,
  from: Ip,
  { timeoutMs, bytesMax }: PlainLimits,
): Promise<PlainAnswer | undefined> {
  return new Promise((resolve) => {
    const length = { "content-length": String(Buffer.byteLength(body)) };
    const options = { method, headers: { ...headers, ...length }, localAddress: from, agent: false };
    const asked = httpRequest(url, options, (response) => {
      const chunks: Buffer[] = [];
      let bytes = 0;
      response.on("data", (chunk: Buffer) => {
        bytes += chunk.length;
        if (bytes > bytesMax) done(undefined);
        else chunks.push(chunk);
      });
      response.on("end", () =>
        done({ status: response.statusCode ?? 0, body: Buffer.concat(chunks).toString("utf8") }),
      );
      response.on("error", () => done(undefined));
    });
    const done = (answer: PlainAnswer | undefined): void => {
      clearTimeout(timer);
      asked.destroy();
      resolve(answer);
    };
    const timer = setTimeout(() => done(undefined), timeoutMs);
    asked.on("error", () => done(undefined));
    asked.end(body);
  });
}
