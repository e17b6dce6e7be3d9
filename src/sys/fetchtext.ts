import { get as httpGet } from "node:http";
import { get as httpsGet } from "node:https";
import type { Family } from "../kit/ip.js";
import type { Millis } from "../kit/time.js";

/** GETs a small text over the given address family; undefined for anything but a 200 within the deadline. */
export type FetchText = (url: string, family: Family, timeoutMs: Millis) => Promise<string | undefined>;

const TEXT_BYTES_MAX = 4_096;

export const fetchText: FetchText = (url, family, timeoutMs) =>
  new Promise((resolve) => {
    const get = url.startsWith("https:") ? httpsGet : httpGet;
    const done = (text: string | undefined): void => {
      clearTimeout(timer);
      request.destroy();
      resolve(text);
    };
    const request = get(url, { family, agent: false, headers: { accept: "text/plain" } }, (response) => {
      let text = "";
      response.setEncoding("utf8");
      response.on("data", (chunk: string) => {
        text += chunk;
        if (text.length > TEXT_BYTES_MAX) done(undefined);
      });
      response.on("end", () => done(response.statusCode === 200 ? text : undefined));
      response.on("error", () => done(undefined));
    });
    const timer = setTimeout(() => done(undefined), timeoutMs);
    request.on("error", () => done(undefined));
  });
