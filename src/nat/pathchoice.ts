import type { Endpoint } from "../kit/endpoint.js";
import { type Cidr, cidrContains, familyOf, isPrivate } from "../kit/ip.js";
import type { Millis } from "../kit/time.js";

/**
 * Which of two proven ways is taken. Points: up to 100 for being faster, in proportion; 50 for loopback, 30 for
 * link-local, 20 for a private address (shorter, and no router's NAT table to fall out of), 10 for IPv6 (no NAT at all).
 */
export type Way = { readonly endpoint: Endpoint; readonly roundTripMs: Millis };

/** A change re-orders packets under way; so little gain is not worth it. */
const GAIN_MIN_POINTS = 5;
/** Nobody feels the difference below: no look-out for something better. */
export const GOOD_ENOUGH_MS: Millis = 5;

/** True when `challenger` should replace `current`, which is proven as well. */
export function isBetter(challenger: Way, current: Way): boolean {
  return points(challenger, current) - points(current, challenger) >= GAIN_MIN_POINTS;
}

function points(way: Way, other: Way): number {
  const slower = Math.max(way.roundTripMs, other.roundTripMs);
  const forSpeed = way.roundTripMs < other.roundTripMs ? 100 - (100 * way.roundTripMs) / slower : 0;
  return forSpeed + bonus(way.endpoint);
}

const LOOPBACK = ["127.0.0.0/8", "::1/128"] as Cidr[];
const LINK_LOCAL = ["169.254.0.0/16", "fe80::/10"] as Cidr[];

function bonus({ address }: Endpoint): number {
  const isIn = (ranges: readonly Cidr[]): boolean => ranges.some((range) => cidrContains(range, address));
  const near = isIn(LOOPBACK) ? 50 : isIn(LINK_LOCAL) ? 30 : isPrivate(address) ? 20 : 0;
  return near + (familyOf(address) === 6 ? 10 : 0);
}
