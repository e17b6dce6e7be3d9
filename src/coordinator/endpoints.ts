import { formatEndpoint, tryEndpoint } from "../kit/endpoint.js";
import { type Cidr, cidrContains, type Ip } from "../kit/ip.js";
import { ENDPOINTS_MAX } from "../wire/map.js";

/** Where no peer can be reached, whatever a device says: this host, multicast, the reserved end of IPv4, link-local. */
const NOWHERE: readonly Cidr[] = [
  "0.0.0.0/8",
  "127.0.0.0/8",
  "169.254.0.0/16",
  "224.0.0.0/3",
  "::/127",
  "::ffff:0:0/96",
  "fe80::/10",
  "ff00::/8",
] as Cidr[];

/**
 * The endpoints of a report that peers are told, in canonical text and the device's order. Left out: what does not
 * parse, what nobody can reach, and the tunnel's own ranges, which would send the tunnel into itself.
 */
export function usableEndpoints(reported: readonly string[], tunnelRanges: readonly Cidr[]): string[] {
  const usable = new Set<string>();
  for (const text of reported) {
    const endpoint = tryEndpoint(text);
    if (endpoint !== undefined && !within([...NOWHERE, ...tunnelRanges], endpoint.address))
      usable.add(formatEndpoint(endpoint));
  }
  return [...usable].slice(0, ENDPOINTS_MAX);
}

const within = (ranges: readonly Cidr[], ip: Ip): boolean => ranges.some((range) => cidrContains(range, ip));
