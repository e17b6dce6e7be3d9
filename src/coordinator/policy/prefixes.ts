import {
  bitsOf,
  type Cidr,
  cidrAddress,
  cidrContains,
  cidrLength,
  type Family,
  familyOf,
  ipFromBigInt,
  ipToBigInt,
  makeCidr,
  PRIVATE_RANGES,
} from "../../kit/ip.js";

/** What two prefixes have in common: the longer one, or nothing. */
export function intersection(one: Cidr, other: Cidr): Cidr | undefined {
  if (familyOf(one) !== familyOf(other)) return undefined;
  const [wide, narrow] = cidrLength(one) <= cidrLength(other) ? [one, other] : [other, one];
  return cidrContains(wide, cidrAddress(narrow)) ? narrow : undefined;
}

export const overlap = (one: Cidr, other: Cidr): boolean => intersection(one, other) !== undefined;
export const isWhole = (network: Cidr): boolean => cidrLength(network) === 0;

const NOT_INTERNET: readonly Cidr[] = [
  ...PRIVATE_RANGES.filter((range) => familyOf(range) === 4),
  // RFC 6890 §2.2.2: this network, protocol assignments, multicast and what is reserved.
  ...(["0.0.0.0/8", "192.0.0.0/24", "224.0.0.0/3"] as Cidr[]),
];

/** Public addresses: what remains of IPv4, and of IPv6 what is given out (RFC 4291 §2.4). */
export const INTERNET: { readonly [family in Family]: readonly Cidr[] } = {
  4: without("0.0.0.0/0" as Cidr, NOT_INTERNET),
  6: ["2000::/3" as Cidr],
};

/** The prefixes that make up `network` less the holes. */
export function without(network: Cidr, holes: readonly Cidr[]): Cidr[] {
  const inside = holes.filter((hole) => overlap(network, hole));
  if (inside.length === 0) return [network];
  if (inside.some((hole) => cidrLength(hole) <= cidrLength(network))) return [];
  const family = familyOf(network);
  const length = cidrLength(network) + 1;
  const first = cidrAddress(network);
  const second = ipFromBigInt(ipToBigInt(first) | (1n << BigInt(bitsOf(family) - length)), family);
  return [first, second].flatMap((half) => without(makeCidr(half, length), inside));
}
