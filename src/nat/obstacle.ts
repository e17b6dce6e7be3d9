import { type Endpoint, formatEndpoint } from "../kit/endpoint.js";
import { type Family, familyOf, isPrivate } from "../kit/ip.js";
import type { NatKind } from "../wire/probe.js";
import type { Obstacle } from "./path.js";

/** What one side of a pair knows of a device: the endpoints it tells its peers, and its NAT. */
export type Standing = { readonly endpoints: readonly Endpoint[]; readonly nat: NatKind };

/** Why no direct path was found, the surest reason first. `tried`: where pings went without an answer. */
export function obstacleBetween(here: Standing, there: Standing, tried: readonly Endpoint[]): Obstacle {
  if (here.nat === "blocked") return { kind: "udp-blocked-here" };
  if (there.nat === "blocked") return { kind: "udp-blocked-there" };
  if (there.endpoints.length === 0 && tried.length === 0) return { kind: "no-endpoints" };
  const [ours, theirs] = [familiesOf(here), familiesOf(there)];
  if (ours.size > 0 && theirs.size > 0 && ![...ours].some((family) => theirs.has(family)))
    return { kind: "no-common-family" };
  if (here.nat === "hard" && there.nat === "hard") return { kind: "both-hard" };
  return { kind: "no-answer", from: tried };
}

/**
 * How many searches must have ended before the reason is told. Where only silence speaks for it, the first one proves
 * little: the peer may not have heard of this device yet.
 */
export const searchesBehind = ({ kind }: Obstacle): number => (kind === "no-answer" || kind === "no-endpoints" ? 2 : 1);

/** A private address beside a public one leads no further than its own network. */
function familiesOf({ endpoints }: Standing): Set<Family> {
  const publics = endpoints.filter(({ address }) => !isPrivate(address));
  return new Set((publics.length > 0 ? publics : endpoints).map(({ address }) => familyOf(address)));
}

/** The endpoints whose port a NAT may have made: guessing is for them alone. */
export const publicFours = (endpoints: readonly Endpoint[]): Endpoint[] =>
  endpoints.filter(({ address }) => familyOf(address) === 4 && !isPrivate(address));

export function sameStanding(left: Standing, right: Standing): boolean {
  const text = ({ nat, endpoints }: Standing) => [nat, ...endpoints.map(formatEndpoint)].join();
  return text(left) === text(right);
}
