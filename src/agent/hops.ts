import { type Cidr, cidrContains, familyOf, type Ip, isPrivate, makeCidr, tryIp } from "../kit/ip.js";
import type { Millis } from "../kit/time.js";

/** The hops of a trace, and where in the world each one stands, as a person would say it. */
export type Hop = {
  readonly ttl: number;
  readonly name?: string;
  readonly address?: Ip;
  readonly roundTripMs?: Millis;
};

export const PLACES = [
  "this network",
  "this network's ISP",
  "tunnel",
  "exit's network",
  "exit's ISP",
  "beyond",
  "silent",
] as const;
export type Place = (typeof PLACES)[number];
export type PlacedHop = Hop & { readonly where: Place };

export const HOPS_MAX = 30;

/** Reads what `traceroute -q 1` prints; lines that are no hop are passed over, a silent hop ("*") keeps its place. */
export function parseTraceroute(text: string): Hop[] {
  return text.split("\n").flatMap((line): Hop[] => {
    const silent = /^\s*(\d{1,2})\s+\*\s*$/.exec(line);
    if (silent !== null) return [{ ttl: Number(silent[1]) }];
    const match = /^\s*(\d{1,2})\s+(\S+)\s+\(([0-9a-fA-F:.]+)(?:%\S+)?\)\s+([0-9.]+) ms/.exec(line);
    const address = tryIp(match?.[3] ?? "");
    if (match === null || address === undefined) return [];
    const name = match[2] === match[3] || match[2] === undefined ? {} : { name: match[2] };
    return [{ ttl: Number(match[1]), address, roundTripMs: Number(match[4]), ...name }];
  });
}

export type Surroundings = {
  /** The networks that this machine's interfaces are in, the tunnel's excluded. */
  readonly networks: readonly Cidr[];
  /** The tunnel addresses of the exit node in use; empty without one. */
  readonly exitAddresses: readonly Ip[];
  /** The public addresses that the world sees at the end of this trace's near side. */
  readonly publicAddresses: readonly Ip[];
};

/**
 * Says where each hop is. The near side is this network, or the exit's once the trace went through the tunnel; its
 * ISP is the first public hop and those that belong with it; everything further is beyond.
 */
export function placeHops(hops: readonly Hop[], around: Surroundings): PlacedHop[] {
  let side: "this network" | "exit's network" = "this network";
  let isp: Hop | undefined;
  let beyond = false;
  return hops.map((hop): PlacedHop => {
    const { address } = hop;
    if (address === undefined) return { ...hop, where: "silent" };
    if (around.exitAddresses.includes(address)) {
      side = "exit's network";
      return { ...hop, where: "tunnel" };
    }
    if (!beyond && isp === undefined && isNear(address, side, around)) return { ...hop, where: side };
    isp ??= hop;
    beyond ||= !belongsWith(hop, isp);
    if (beyond) return { ...hop, where: "beyond" };
    return { ...hop, where: side === "this network" ? "this network's ISP" : "exit's ISP" };
  });
}

function isNear(address: Ip, side: "this network" | "exit's network", around: Surroundings): boolean {
  if (isPrivate(address)) return true;
  if (side === "this network" && around.networks.some((network) => cidrContains(network, address))) return true;
  // IPv6 has no NAT to hide a home's routers: what shares the /64 that the world sees is the home itself.
  return around.publicAddresses.some(
    (seen) => seen === address || (familyOf(seen) === 6 && sameNetwork(seen, address, 64)),
  );
}

/** The same operator, as far as can be told without asking anyone: names of one domain, else one /24 or /48. */
function belongsWith(hop: Hop, first: Hop): boolean {
  if (hop.name !== undefined && first.name !== undefined) return domainOf(hop.name) === domainOf(first.name);
  if (hop.address === undefined || first.address === undefined) return false;
  return sameNetwork(hop.address, first.address, familyOf(first.address) === 4 ? 24 : 48);
}

function sameNetwork(left: Ip, right: Ip, length: number): boolean {
  return familyOf(left) === familyOf(right) && makeCidr(left, length) === makeCidr(right, length);
}

/** The last two labels of a name with three or more; a shorter name is a domain of its own. */
function domainOf(name: string): string {
  const labels = name.replace(/\.$/, "").split(".");
  return labels.length < 3 ? name : labels.slice(-2).join(".");
}
