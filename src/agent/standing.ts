import { type Endpoint, formatEndpoint } from "../kit/endpoint.js";
import { type Cidr, cidrContains, familyOf, type Ip, isPrivate, parseCidr } from "../kit/ip.js";
import { type Candidate, gatherCandidates } from "../nat/candidates.js";
import { natKindOf } from "../nat/natkind.js";
import type { Standing } from "../nat/obstacle.js";
import type { StunReport } from "../nat/stunreport.js";
import type { NetInfo } from "../sys/netinfo.js";
import type { AgentConfig } from "../wire/agentconfig.js";
import type { Forward } from "./forwardedport.js";

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
  readonly forward?: Forward;
  /** Our own network's ranges. */
  readonly tunnels: readonly Cidr[];
};

/** What peers are told: the endpoints to try, most promising first, and what the NAT does. */
export function standingOf(config: AgentConfig, known: Known): Standing {
  const { stun } = known;
  const endpoints = candidatesOf(config, known).map(({ endpoint }) => endpoint);
  return { endpoints, nat: stun === undefined ? "unknown" : natKindOf(stun) };
}

/**
 * Where a stranger's first datagram arrives: at a mapping or a forward that a dial-back has come in through, or at a
 * public IPv4 address of the machine's own. A home's public IPv6 addresses are mostly shut.
 */
export function openEndpoints(config: AgentConfig, known: Known): Endpoint[] {
  const proven = [known.mapped, known.forward === "here" ? forwardedEndpoint(config, known) : undefined];
  const open = proven.flatMap((endpoint) => (endpoint === undefined ? [] : [formatEndpoint(endpoint)]));
  const isOpen = ({ origin, endpoint }: Candidate): boolean =>
    origin === "local"
      ? familyOf(endpoint.address) === 4 && !isPrivate(endpoint.address)
      : open.includes(formatEndpoint(endpoint));
  return candidatesOf(config, known)
    .filter(isOpen)
    .map(({ endpoint }) => endpoint);
}

/** The port that the configuration calls forwarded, on the router's public address. */
export function forwardedEndpoint({ forwardedPort }: AgentConfig, { seen, stun }: Known): Endpoint | undefined {
  const address = seen.ipv4 ?? stun?.mapped.find((one) => familyOf(one.address) === 4)?.address;
  return address === undefined || forwardedPort === undefined ? undefined : { address, port: forwardedPort };
}

function candidatesOf(config: AgentConfig, known: Known): Candidate[] {
  const { stun, tunnels, mapped, listenPort } = known;
  const forwarded = forwardedEndpoint(config, known);
  const refuted = known.forward === "elsewhere" && forwarded !== undefined ? formatEndpoint(forwarded) : undefined;
  const found = gatherCandidates({
    locals: ownAddresses(config, known.info),
    port: listenPort,
    stun,
    portmaps: mapped === undefined ? [] : [mapped],
    configured: forwarded === undefined || refuted !== undefined ? [] : [forwarded],
    tunnels,
  });
  // Behind a NAT that chooses ports the same endpoint is a guess as well.
  return found.filter(({ origin, endpoint }) => origin !== "predicted" || formatEndpoint(endpoint) !== refuted);
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
