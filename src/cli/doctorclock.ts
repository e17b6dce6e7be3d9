import { request as httpRequest } from "node:http";
import { request as httpsRequest } from "node:https";
import type { Millis } from "../kit/time.js";

/**
 * What time it is at a server, from its answer's Date (RFC 9110 §6.6.1). Its certificate is not judged: with a clock that
 * is wrong by years none is valid, and nothing but the hour is believed.
 */
export function serverDate(url: string, timeoutMs: Millis): Promise<Millis | undefined> {
  return new Promise((resolve) => {
    const options = { method: "HEAD", agent: false as const, timeout: timeoutMs };
    const sent = url.startsWith("https:")
      ? httpsRequest(url, { ...options, rejectUnauthorized: false })
      : httpRequest(url, options);
    const done = (told: Millis | undefined): void => {
      clearTimeout(timer);
      sent.destroy();
      resolve(told);
    };
    const timer = setTimeout(() => done(undefined), timeoutMs);
    sent.on("response", ({ headers }) => {
      const told = Date.parse(headers.date ?? "");
      done(Number.isNaN(told) ? undefined : told);
    });
    sent.on("error", () => done(undefined));
    sent.end();
  });
}
