import { cidrContains, type Ip, parseCidr, tryIp } from "../kit/ip.js";

/**
 * Where a machine's own resolvers are written down. The first file that names one which is not on this machine counts:
 * behind a stub resolver on loopback, its keeper writes the true ones beside (systemd-resolved, NetworkManager,
 * resolvconf with dnsmasq).
 */
export const RESOLVER_FILES = [
  "/etc/resolv.conf",
  "/run/systemd/resolve/resolv.conf",
  "/run/NetworkManager/no-stub-resolv.conf",
  "/run/NetworkManager/resolv.conf",
  "/run/dnsmasq/resolv.conf",
] as const;

/** resolv.conf(5) has three at most; keepers write more. */
const MACHINE_RESOLVERS_MAX = 8;

const LOOPBACK = [parseCidr("127.0.0.0/8"), parseCidr("::1/128"), parseCidr("0.0.0.0/32"), parseCidr("::/128")];

/** The resolvers of one resolv.conf(5), in their order; one on loopback or on one link alone is left out. */
export function readResolvers(text: string): Ip[] {
  const found = new Set<Ip>();
  for (const line of text.split("\n")) {
    const address = tryIp(/^\s*nameserver\s+(\S+)/.exec(line)?.[1] ?? "");
    if (address !== undefined && !LOOPBACK.some((range) => cidrContains(range, address))) found.add(address);
    if (found.size === MACHINE_RESOLVERS_MAX) break;
  }
  return [...found];
}
