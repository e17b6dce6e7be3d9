import type { Cidr } from "../../kit/ip.js";
import { hostCidr } from "../../kit/ip.js";
import { FILTER_RULES_MAX, type FilterRule } from "../../wire/map.js";
import type { Access, Door } from "./access.js";
import type { Ports } from "./selector.js";

/** A resolver's port (RFC 1035 §4.2). */
const DNS: [number, number] = [53, 53];

/** More sources than these are told as the network's ranges when nobody else is a peer of the device. */
const SOURCES_NAMED_MAX = 64;

/**
 * What a device lets in, in the policy's order. Where a grant's sources are many and all the peers that the device
 * has, they are told as the network's ranges: an exit node for thousands is then a rule of two prefixes, and a device
 * that joins changes nothing about it. Whoever is no peer has no session to send through.
 */
export function filterOf(
  access: Access,
  id: string,
  peers: ReadonlySet<string>,
  ranges: readonly Cidr[],
): FilterRule[] {
  const doors = access.doorsOf(id, peers);
  const standing = access.standing(id);
  const isEverybody = (sources: readonly string[]): boolean =>
    sources.length > SOURCES_NAMED_MAX && sources.length === peers.size;
  const fromOf = ({ sources, index }: Pick<Door, "sources" | "index">): Cidr[] => {
    const isOwn = (source: string): boolean => access.sourcesAt(source, index) === access.standing(source)?.own;
    if (isEverybody(sources) && sources.every(isOwn)) return [...ranges];
    return [...new Set(sources.flatMap((source) => access.sourcesAt(source, index)))].sort();
  };
  const rules = doors.flatMap((door) => {
    const { inside, beyond } = door.reach;
    const from = fromOf(door);
    return [
      ...(inside.length === 0 ? [] : rulesFor(door.grant.ports, { from, to: [...inside] })),
      ...(beyond.length === 0 ? [] : rulesFor(door.grant.ports, { from, to: [...beyond], routed: true as const })),
    ];
  });
  // Who may use an exit node may also ask whether it is there, and its resolver for names.
  const users = [...new Set(doors.filter(({ reach }) => reach.exits.length > 0).flatMap(({ sources }) => sources))];
  if (users.length > 0 && standing !== undefined) {
    const own = (source: string): readonly Cidr[] => access.standing(source)?.own ?? [];
    const from = isEverybody(users) ? [...ranges] : users.flatMap(own).sort();
    const to = [...standing.own];
    rules.push({ from, to, protocol: "icmp" });
    const resolvers = [...new Set([...to, ...standing.resolvers.map(hostCidr)])];
    for (const protocol of ["tcp", "udp"] as const) rules.push({ from, to: resolvers, protocol, ports: [DNS] });
  }
  return rules.slice(0, FILTER_RULES_MAX);
}

function rulesFor(ports: readonly Ports[], base: Pick<FilterRule, "from" | "to" | "routed">): FilterRule[] {
  if (ports.some(({ protocol }) => protocol === "any")) return [{ ...base, protocol: "any" }];
  return (["tcp", "udp", "icmp"] as const).flatMap((protocol) => {
    const of = ports.filter((one) => one.protocol === protocol);
    if (of.length === 0) return [];
    if (of.some(({ range }) => range === undefined)) return [{ ...base, protocol }];
    return [
      {
        ...base,
        protocol,
        ports: of.flatMap(({ range }) => (range === undefined ? [] : [[...range] as [number, number]])),
      },
    ];
  });
}
