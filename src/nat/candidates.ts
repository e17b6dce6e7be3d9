import { type Endpoint, formatEndpoint } from "../kit/endpoint.js";
import { type Cidr, cidrContains, familyOf, type Ip, isPrivate } from "../kit/ip.js";
import { ENDPOINTS_MAX } from "../wire/map.js";
import type { StunReport } from "./stunreport.js";

/**
 * Where others may reach this device: what it tells the coordinator and its peers, most promising first, at most
 * ENDPOINTS_MAX. Tunnel addresses are left out, or WireGuard would run inside itself; so is what no other machine can
 * send to: loopback, link-local (an IPv6 one needs a scope that only this machine knows), multicast, unspecified.
 */
export type Origin = "configured" | "portmap" | "stun" | "local" | "predicted";
export type Candidate = { readonly endpoint: Endpoint; readonly origin: Origin };

export type Sources = {
  /** The interfaces' addresses, and the port WireGuard listens on. */
  readonly locals: readonly Ip[];
  readonly port: number;
  readonly stun?: StunReport | undefined;
  /** Port mappings that a dial-back has proven. */
  readonly portmaps?: readonly Endpoint[] | undefined;
  readonly configured?: readonly Endpoint[] | undefined;
  /** Our own network's ranges. */
  readonly tunnels: readonly Cidr[];
};

/** A machine with forty container bridges must not crowd out its one useful address. */
const LOCALS_MAX = 8;
const CONFIGURED_MAX = 4;

export function gatherCandidates(sources: Sources): Candidate[] {
  const { locals, port, stun, tunnels } = sources;
  const found: Candidate[] = [];
  const add = (origin: Origin, endpoints: readonly Endpoint[]): void => {
    for (const endpoint of endpoints) if (isReachable(endpoint, tunnels)) found.push({ endpoint, origin });
  };
  add("configured", (sources.configured ?? []).slice(0, CONFIGURED_MAX));
  // A router behind another one hands out mappings on an address that nobody outside can use.
  add(
    "portmap",
    (sources.portmaps ?? []).filter(({ address }) => !isPrivate(address)),
  );
  add("stun", stun?.mapped ?? []);
  const reachable = locals.filter((address) => isReachable({ address, port }, tunnels));
  add(
    "local",
    [...reachable]
      .sort(byUse)
      .slice(0, LOCALS_MAX)
      .map((address) => ({ address, port })),
  );
  add("predicted", stun === undefined ? [] : guesses(stun, port));
  return firstOfEach(found).slice(0, ENDPOINTS_MAX);
}

/** What is left of a peer's list when it is read: the same rules, for nothing from a network is believed. */
export function usableCandidates(endpoints: readonly Endpoint[], tunnels: readonly Cidr[]): Endpoint[] {
  const usable = endpoints.filter((endpoint) => isReachable(endpoint, tunnels));
  return firstOfEach(usable.map((endpoint) => ({ endpoint, origin: "stun" })))
    .slice(0, ENDPOINTS_MAX)
    .map(({ endpoint }) => endpoint);
}

/** 0.0.0.0/8 and class D and E; ::/127 holds :: and ::1. */
const UNREACHABLE = [
  "0.0.0.0/8",
  "127.0.0.0/8",
  "169.254.0.0/16",
  "224.0.0.0/3",
  "::/127",
  "fe80::/10",
  "ff00::/8",
] as Cidr[];

function isReachable({ address, port }: Endpoint, tunnels: readonly Cidr[]): boolean {
  if (port < 1 || port > 65_535) return false;
  return ![...UNREACHABLE, ...tunnels].some((range) => cidrContains(range, address));
}

/** Public addresses first, then private ones, carrier addresses (RFC 6598) last: they are seldom reachable. */
function byUse(left: Ip, right: Ip): number {
  return use(left) - use(right);
}

const CARRIER = "100.64.0.0/10" as Cidr;

function use(address: Ip): number {
  if (!isPrivate(address)) return 0;
  return cidrContains(CARRIER, address) ? 2 : 1;
}

/** The next ports of a NAT that counts; and the local port, which its owner may have forwarded by hand. */
function guesses(stun: StunReport, port: number): Endpoint[] {
  if (stun.mapping !== "address-dependent" && stun.mapping !== "address-and-port-dependent") return [];
  const four = stun.mapped.find(({ address }) => familyOf(address) === 4);
  return [...stun.predicted, ...(four === undefined ? [] : [{ address: four.address, port }])];
}

function firstOfEach(candidates: readonly Candidate[]): Candidate[] {
  const byText = new Map<string, Candidate>();
  for (const candidate of candidates) {
    const text = formatEndpoint(candidate.endpoint);
    if (!byText.has(text)) byText.set(text, candidate);
  }
  return [...byText.values()];
}
