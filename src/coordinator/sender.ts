import { type Cidr, cidrContains, type Ip } from "../kit/ip.js";
import { plainIp } from "../kit/neighbourhood.js";

/** Proxies before a coordinator, at most: further ones are not ours. */
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
