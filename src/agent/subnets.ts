import { type Cidr, cidrAddress, cidrContains } from "../kit/ip.js";
import type { MapPeer, NetworkMap } from "../wire/map.js";
import { isDefaultRoute } from "./desired.js";

/** Networks behind other devices, as far as this device goes there through them. */

type Subnet = { readonly route: Cidr; readonly peer: MapPeer; readonly besides: Cidr | undefined };

/**
 * The map with every network behind one device at most, one that is online where there is one, and without those that
 * overlap a network this machine is in: what is here is reached here, and not by way of another device.
 */
export function withReachable(map: NetworkMap, networks: readonly Cidr[]): NetworkMap {
  const taken = new Set(
    subnetsOf(map, networks).flatMap(({ route, peer, besides }) => (besides ? [] : [keyOf(route, peer)])),
  );
  const isKept = (route: Cidr, peer: MapPeer): boolean => isDefaultRoute(route) || taken.has(keyOf(route, peer));
  const peers = map.peers.map((peer) =>
    peer.routes.every((route) => isKept(route, peer))
      ? peer
      : { ...peer, routes: peer.routes.filter((route) => isKept(route, peer)) },
  );
  return { ...map, peers };
}

/** What is not taken, and why, in words. */
export function withheld(map: NetworkMap, networks: readonly Cidr[]): string[] {
  return subnetsOf(map, networks).flatMap(({ route, peer, besides }) =>
    besides === undefined ? [] : [`${route} behind ${peer.name} is not used: this machine is in ${besides} itself`],
  );
}

function subnetsOf(map: NetworkMap, networks: readonly Cidr[]): Subnet[] {
  const subnets = new Map<Cidr, Subnet>();
  for (const peer of map.peers)
    for (const route of peer.routes) {
      if (isDefaultRoute(route)) continue;
      const before = subnets.get(route);
      if (before !== undefined && (before.peer.online || !peer.online)) continue;
      subnets.set(route, { route, peer, besides: networks.find((network) => overlap(network, route)) });
    }
  return [...subnets.values()];
}

const keyOf = (route: Cidr, { id }: MapPeer): string => `${id} ${route}`;

/** Of two networks that share an address, one holds the other. */
const overlap = (one: Cidr, other: Cidr): boolean =>
  cidrContains(one, cidrAddress(other)) || cidrContains(other, cidrAddress(one));
