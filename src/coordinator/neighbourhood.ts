import { type Cidr, cidrContains, familyOf, type Ip, ipBytes, ipFromBytes, makeCidr, tryIp } from "../kit/ip.js";

/** Addresses as a server sees them: who stands behind one, and who shares it. */

/** An IPv4 address as a socket of both families shows it, or as itself. */
export function plainIp(text: string): Ip | undefined {
  const ip = tryIp(text);
  if (ip === undefined || familyOf(ip) === 4) return ip;
  const bytes = ipBytes(ip);
  const isMapped = bytes.subarray(0, 10).every((byte) => byte === 0) && bytes[10] === 255 && bytes[11] === 255;
  return isMapped ? ipFromBytes(bytes.subarray(12)) : ip;
}

/** What one subscriber can change at will counts as one: an IPv6 /64 (RFC 6177), an IPv4 address. */
export function neighbourhood(remote: string): string {
  const ip = plainIp(remote);
  if (ip === undefined) return remote;
  return familyOf(ip) === 6 ? makeCidr(ip, 64) : ip;
}

/** Proxies before us, at most: further ones are not ours. */
const HOPS_MAX = 8;

/**
 * Who sent a request that came from `remote`. X-Forwarded-For is believed as far as trusted proxies wrote it: from the
 * right, the first address that is not one of theirs.
 */
export function senderOf(remote: string, forwarded: string | undefined, trusted: readonly Cidr[]): string {
  let sender = plainIp(remote);
  const isTrusted = (ip: Ip): boolean => trusted.some((range) => cidrContains(range, ip));
  const hops = (forwarded ?? "").split(",").slice(-HOPS_MAX).reverse();
  for (const hop of hops) {
    if (sender === undefined || !isTrusted(sender)) break;
    const before = plainIp(hop.trim());
    if (before === undefined) break;
    sender = before;
  }
  return sender ?? remote;
}
