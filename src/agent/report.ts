import { formatEndpoint } from "../kit/endpoint.js";
import { type Cidr, cidrContains, type Ip, parseCidr } from "../kit/ip.js";
import type { Key } from "../kit/key.js";
import type { AgentConfig } from "../wire/agentconfig.js";
import type { DeviceReport } from "../wire/control.js";
import type { AppsSeen } from "./appsseen.js";
import { type Known, LINK_LOCAL, openEndpoints, ownAddresses, type PublicAddresses, standingOf } from "./standing.js";

/** What a device tells the coordinator about itself, from what was seen on the machine. */

const GLOBAL_IPV6 = parseCidr("2000::/3");

export function describeDevice(
  config: AgentConfig,
  known: Known,
  paths: { readonly discoveryKey?: Key; readonly homeRelay?: string | undefined; readonly apps?: AppsSeen["told"] },
): DeviceReport {
  const { info, seen } = known;
  // Only an exit node has peers that cannot look for a way by themselves.
  const open = config.role === "exit-node" ? openEndpoints(config, known).map(formatEndpoint) : [];
  return {
    endpoints: standingOf(config, known).endpoints.map(formatEndpoint),
    routes: config.role === "exit-node" ? exitRoutes(ownAddresses(config, info), seen) : (config.advertise ?? []),
    resolvers: config.role === "exit-node" ? info.resolvers.filter(isForwardable).slice(0, 4) : [],
    ...(paths.discoveryKey === undefined ? {} : { discoveryKey: paths.discoveryKey }),
    ...(paths.homeRelay === undefined ? {} : { homeRelay: paths.homeRelay }),
    ...(open.length === 0 ? {} : { open }),
    ...(paths.apps === undefined || paths.apps.length === 0 ? {} : { apps: [...paths.apps] }),
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
