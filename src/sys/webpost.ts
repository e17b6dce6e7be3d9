import { lookup } from "node:dns";
import { request as plainRequest } from "node:http";
import { request as secureRequest } from "node:https";
import type { LookupFunction } from "node:net";
import { type Ip, tryIp } from "../kit/ip.js";
import type { Millis } from "../kit/time.js";

export type WebPostWant = {
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
  /** Why no connection is made to an address that the URL's name has; undefined: it may be. */
  readonly forbidden: (address: Ip) => string | undefined;
  readonly timeoutMs: Millis;
  readonly signal?: AbortSignal;
};

/** `reason`: there was no answer. */
export type WebPosted = { readonly status: number } | { readonly reason: string };

/**
 * One POST to somebody else's server. The address that is judged is the one that is dialled: a name cannot point
 * elsewhere in between. No redirection is followed, and the answer's body is not read.
 */
export type WebPost = (want: WebPostWant) => Promise<WebPosted>;

export const webPost: WebPost = ({ url, headers, body, forbidden, timeoutMs, signal }) => {
  const literal = tryIp(url.hostname.replace(/^\[|\]$/g, ""));
  const refusal = literal === undefined ? undefined : forbidden(literal);
  if (refusal !== undefined) return Promise.resolve({ reason: refusal });
  return new Promise((resolve) => {
    const request = url.protocol === "https:" ? secureRequest : plainRequest;
    const length = { "content-length": String(Buffer.byteLength(body)) };
    const options = { method: "POST", headers: { ...headers, ...length }, agent: false, lookup: judged(forbidden) };
    const asked = request(url, options, (response) => done({ status: response.statusCode ?? 0 }));
    const done = (posted: WebPosted): void => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", cancel);
      asked.destroy();
      resolve(posted);
    };
    const cancel = (): void => done({ reason: "it was cancelled" });
    const timer = setTimeout(() => done({ reason: `no answer within ${timeoutMs / 1_000} s` }), timeoutMs);
    signal?.addEventListener("abort", cancel);
    asked.on("error", (error) => done({ reason: error.message }));
    asked.end(body);
    if (signal?.aborted) cancel();
  });
};

const judged =
  (forbidden: WebPostWant["forbidden"]): LookupFunction =>
  (name, options, found) => {
    lookup(name, { ...options, all: true }, (error, addresses) => {
      if (error !== null) return found(error, []);
      const allowed = addresses.filter(({ address }) => {
        const ip = tryIp(address);
        return ip !== undefined && forbidden(ip) === undefined;
      });
      const [first] = allowed;
      if (first === undefined) {
        const reasons = addresses.map(({ address }) => forbidden(address as Ip));
        return found(new Error(reasons[0] ?? `${name} has no address`), []);
      }
      if (options.all === true) found(null, allowed);
      else found(null, first.address, first.family);
    });
  };
