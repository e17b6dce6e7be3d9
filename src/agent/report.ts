import { formatEndpoint } from "../kit/endpoint.js";
import { type Cidr, cidrContains, familyOf, type Ip, isPrivate, parseCidr } from "../kit/ip.js";
import type { NetInfo } from "../sys/netinfo.js";
import type { AgentConfig } from "../wire/agentconfig.js";
import type { DeviceReport } from "../wire/control.js";
import { ENDPOINTS_MAX } from "../wire/map.js";

/** What a device tells the coordinator about itself, from what was seen on the machine. */

export type PublicAddresses = { readonly ipv4?: Ip | undefined; readonly ipv6?: Ip | undefined };

const GLOBAL_IPV6 = parseCidr("2000::/3");
const LINK_LOCAL: readonly Cidr[] = [parseCidr("fe80::/10"), parseCidr("169.254.0.0/16")];

export function describeDevice(
  config: AgentConfig,
  listenPort: number,
  info: NetInfo,
  seen: PublicAddresses,
): DeviceReport {
  const own = info.addresses.filter((address) => address.interface !== config.interface).map(({ ip }) => ip);
  const usable = own.filter((ip) => !LINK_LOCAL.some((range) => cidrContains(range, ip)));
  const forwarded =
    config.forwardedPort === undefined || seen.ipv4 === undefined
      ? []
      : [{ address: seen.ipv4, port: config.forwardedPort }];
  const globals = usable.filter((ip) => !isPrivate(ip));
  const privates = usable.filter((ip) => isPrivate(ip) && familyOf(ip) === 4);
  const endpoints = [...forwarded, ...[...globals, ...privates].map((address) => ({ address, port: listenPort }))];
  return {
    endpoints: [...new Set(endpoints.map(formatEndpoint))].slice(0, ENDPOINTS_MAX),
    routes: config.role === "exit-node" ? exitRoutes(usable, seen) : [],
    resolvers: config.role === "exit-node" ? info.resolvers.filter(isForwardable).slice(0, 4) : [],
  };
}

/** IPv4 always (behind whatever NAT), IPv6 only where the machine has a global address or was seen with one. */
function exitRoutes(own: readonly Ip[], seen: PublicAddresses): Cidr[] {
  const ipv6 = seen.ipv6 !== undefined || own.some((ip) => cidrContains(GLOBAL_IPV6, ip));
  return [parseCidr("0.0.0.0/0"), ...(ipv6 ? [parseCidr("::/0")] : [])];
}

/** A resolver on loopback or on one link cannot be reached through the exit. */
function isForwardable(ip: Ip): boolean {
  return (
    ip !== "::1" && !cidrContains(parseCidr("127.0.0.0/8"), ip) && !LINK_LOCAL.some((range) => cidrContains(range, ip))
  );
}
