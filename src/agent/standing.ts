import type { Endpoint } from "../kit/endpoint.js";
import { type Cidr, cidrContains, familyOf, type Ip, isPrivate, parseCidr } from "../kit/ip.js";
import { gatherCandidates } from "../nat/candidates.js";
import { natKindOf } from "../nat/natkind.js";
import type { Standing } from "../nat/obstacle.js";
import type { StunReport } from "../nat/stunreport.js";
import type { NetInfo } from "../sys/netinfo.js";
import type { AgentConfig } from "../wire/agentconfig.js";
import { ENDPOINTS_MAX } from "../wire/map.js";

/** As the world sees this machine. */
export type PublicAddresses = { readonly ipv4?: Ip | undefined; readonly ipv6?: Ip | undefined };

export const LINK_LOCAL: readonly Cidr[] = [parseCidr("fe80::/10"), parseCidr("169.254.0.0/16")];

/** All that is known of where this device is. */
export type Known = {
  readonly info: NetInfo;
  readonly listenPort: number;
  readonly seen: PublicAddresses;
  readonly stun: StunReport | undefined;
  readonly mapped: Endpoint | undefined;
  /** Our own network's ranges. */
  readonly tunnels: readonly Cidr[];
};

/** What peers are told: the endpoints to try, most promising first, and what the NAT does. */
export function standingOf(config: AgentConfig, known: Known): Standing {
  const { stun, tunnels, mapped, listenPort } = known;
  const public4 = known.seen.ipv4 ?? stun?.mapped.find(({ address }) => familyOf(address) === 4)?.address;
  const forwarded =
    config.forwardedPort === undefined || public4 === undefined
      ? []
      : [{ address: public4, port: config.forwardedPort }];
  const candidates = gatherCandidates({
    locals: ownAddresses(config, known.info),
    port: listenPort,
    stun,
    portmaps: mapped === undefined ? [] : [mapped],
    configured: forwarded,
    tunnels,
  });
  const endpoints = candidates.map(({ endpoint }) => endpoint).slice(0, ENDPOINTS_MAX);
  return { endpoints, nat: stun === undefined ? "unknown" : natKindOf(stun) };
}

/** The machine's addresses that others could use, public ones first: no tunnel's, no link's, no private IPv6. */
export function ownAddresses(config: Pick<AgentConfig, "interface">, info: NetInfo): Ip[] {
  const own = info.addresses.filter((address) => address.interface !== config.interface).map(({ ip }) => ip);
  const usable = own.filter((ip) => !LINK_LOCAL.some((range) => cidrContains(range, ip)));
  return [...usable.filter((ip) => !isPrivate(ip)), ...usable.filter((ip) => isPrivate(ip) && familyOf(ip) === 4)];
}

export type Move = "none" | "more" | "elsewhere";

/** Whether an address has gone since (the machine is elsewhere: no path of before holds) or only some have come. */
export function moveBetween(before: readonly Ip[], now: readonly Ip[]): Move {
  if (before.some((ip) => !now.includes(ip))) return "elsewhere";
  return now.some((ip) => !before.includes(ip)) ? "more" : "none";
}
