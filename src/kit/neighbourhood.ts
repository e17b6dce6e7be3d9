import { familyOf, type Ip, ipBytes, ipFromBytes, makeCidr, tryIp } from "./ip.js";

/** Addresses as a server sees them. */

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
