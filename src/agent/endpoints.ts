import { type Endpoint, tryEndpoint } from "../kit/endpoint.js";
import { type Cidr, cidrContains, familyOf, isPrivate, tryIp } from "../kit/ip.js";
import type { Millis } from "../kit/time.js";

/**
 * Which of a peer's endpoints to try, and when to try the next: without probing, a handshake is the only proof
 * that an endpoint answers, so each gets a window for one and the list is gone round.
 */

/** Long enough for a handshake and one retry (WireGuard paper §6.4: 5 s) on a poor café line. */
export const ENDPOINT_WINDOW_MS: Millis = 6_000;
/** A handshake younger than this proves the path: sessions renew theirs every two minutes. */
export const PROVEN_WITHIN_MS: Millis = 180_000;

/** The endpoints worth trying from here: those in a network this machine is in, then public ones, in the given order. */
export function candidates(endpoints: readonly string[], networks: readonly Cidr[]): Endpoint[] {
  const parsed = endpoints.map(tryEndpoint).filter((endpoint) => endpoint !== undefined);
  const families = new Set(networks.filter((network) => !network.startsWith("fe80:")).map(familyOf));
  const reachable = parsed.filter((endpoint) => families.has(familyOf(endpoint.address)));
  const onLink = reachable.filter((endpoint) => networks.some((network) => cidrContains(network, endpoint.address)));
  const publics = reachable.filter((endpoint) => !isPrivate(endpoint.address) && !onLink.includes(endpoint));
  return [...onLink, ...publics];
}

/** The URLs in the order to try: those in a network this machine is in first, for not every router leads back inside. */
export function nearestFirst(urls: readonly string[], networks: readonly Cidr[]): string[] {
  const isNear = (url: string): boolean => {
    const ip = tryIp(new URL(url).hostname.replace(/^\[(.*)\]$/, "$1"));
    return ip !== undefined && networks.some((network) => cidrContains(network, ip));
  };
  return [...urls.filter(isNear), ...urls.filter((url) => !isNear(url))];
}

/** One peer's search. `since` is when the current candidate's window began. */
export type Search = { readonly at: number; readonly since: Millis };

/**
 * The search after a look at the peer: stays while the path is proven or its window runs, else moves on.
 * `handshakeAge` is undefined when there never was one.
 */
export function nextSearch(
  search: Search | undefined,
  count: number,
  handshakeAge: Millis | undefined,
  now: Millis,
): Search {
  if (search === undefined) return { at: 0, since: now };
  if (handshakeAge !== undefined && handshakeAge < PROVEN_WITHIN_MS) return search;
  if (now - search.since < ENDPOINT_WINDOW_MS || count === 0) return search;
  return { at: (search.at + 1) % count, since: now };
}
