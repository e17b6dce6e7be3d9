import { type Cidr, cidrContains, familyOf, type Ip, ipBytes, ipFromBytes, isPrivate } from "../kit/ip.js";
import { plainIp } from "../kit/neighbourhood.js";

/**
 * Where the coordinator may be sent by a URL that somebody gave it: not to this machine nor to what only this link
 * has, where a cloud's metadata service and other machines' unguarded ports are (OWASP SSRF Prevention Cheat Sheet).
 * The home's own network is where home automation is: it is allowed.
 */
const FORBIDDEN: readonly Cidr[] = [
  "0.0.0.0/8", // this host (RFC 1122 §3.2.1.3)
  "127.0.0.0/8",
  "169.254.0.0/16",
  "192.0.0.0/24", // protocol assignments (RFC 6890)
  "224.0.0.0/3", // multicast, reserved, broadcast
  "::/127", // unspecified and loopback
  "fe80::/10",
  "ff00::/8",
  "2002::/16", // 6to4 (RFC 7526 gave it up): an IPv4 address in disguise
] as Cidr[];

const NAT64 = "64:ff9b::/96" as Cidr;

/** Why nothing is sent to the address, or undefined when it may be. */
export function forbidden(url: URL, address: Ip, allowLocal: boolean): string | undefined {
  const ip = behind(address);
  if (!allowLocal && FORBIDDEN.some((range) => cidrContains(range, ip)))
    return `${ip} is this machine or this link, where no webhook is sent (webhooksToThisMachine in coordinator.yaml)`;
  if (url.protocol === "http:" && !isPrivate(ip)) return `${ip} is on the Internet: its URL must begin with https://`;
  return undefined;
}

/** The IPv4 address that an IPv6 one stands for (RFC 4291 §2.5.5.2, RFC 6052 §2.1), or the address itself. */
function behind(address: Ip): Ip {
  if (familyOf(address) === 6 && cidrContains(NAT64, address)) return ipFromBytes(ipBytes(address).subarray(12));
  return plainIp(address) ?? address;
}
