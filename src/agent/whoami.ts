import { type Family, familyOf, type Ip, tryIp } from "../kit/ip.js";
import type { Millis } from "../kit/time.js";
import type { FetchText } from "../sys/fetchtext.js";
import type { WhoamiAnswer } from "../wire/agentsocket.js";

export const WHOAMI_TIMEOUT_MS: Millis = 4_000;

/** This machine's public address of each family, as the first service that gives a proper answer sees it. */
export async function seenFrom(fetchText: FetchText, urls: readonly string[]): Promise<WhoamiAnswer> {
  const [ipv4, ipv6] = await Promise.all([ask(fetchText, urls, 4), ask(fetchText, urls, 6)]);
  return { ...(ipv4 === undefined ? {} : { ipv4 }), ...(ipv6 === undefined ? {} : { ipv6 }) };
}

async function ask(fetchText: FetchText, urls: readonly string[], family: Family): Promise<Ip | undefined> {
  for (const url of urls) {
    const ip = tryIp((await fetchText(url, family, WHOAMI_TIMEOUT_MS))?.trim() ?? "");
    if (ip !== undefined && familyOf(ip) === family) return ip;
  }
  return undefined;
}
