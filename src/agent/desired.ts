import type { Endpoint } from "../kit/endpoint.js";
import { Failure } from "../kit/failure.js";
import { type Cidr, familyOf, hostCidr } from "../kit/ip.js";
import type { Key } from "../kit/key.js";
import type { AgentConfig } from "../wire/agentconfig.js";
import type { MapPeer, NetworkMap } from "../wire/map.js";
import type { DnsChoice } from "../wire/names.js";
import type { WantInterface, WantPeer } from "../wireguard/interface.js";

/** From the map and the user's choice to what this device's interface should be: no I/O, no state. */

/**
 * Marks WireGuard's own datagrams so that policy routing lets them past the tunnel. Within the mask that mesh
 * VPNs use for this (0xff0000), at a value of our own.
 */
export const FWMARK = 0x45_0000;

/**
 * 25 s: the shortest UDP mapping we must keep open is 30 s, as home routers give (RFC 4787 REQ-5 asks for two
 * minutes), less a margin for one lost packet.
 */
const KEEPALIVE_SECONDS = 25;

const DEFAULT_ROUTES: readonly string[] = ["0.0.0.0/0", "::/0"];

/** What only the exit in use gets. */
export const isDefaultRoute = (route: string): boolean => DEFAULT_ROUTES.includes(route);

export type Choice = {
  readonly exit: string | undefined;
  /** How look-ups go while the exit is used; undefined: by its own resolver. */
  readonly dns?: DnsChoice | undefined;
};

/** The exit node in use, when the map has it and it offers a default route. */
export function exitOf(map: NetworkMap, choice: Choice): MapPeer | undefined {
  return map.peers.find((peer) => peer.name === choice.exit && isExit(peer));
}

export const isExit = (peer: MapPeer): boolean =>
  peer.role === "exit-node" && peer.routes.some((route) => DEFAULT_ROUTES.includes(route));

export function unknownExit(name: string, map: NetworkMap | undefined): Failure {
  const exits = (map?.peers ?? []).filter(isExit).map((peer) => peer.name);
  return new Failure("exit-unknown", `there is no exit node "${name}"; known: ${exits.join(", ") || "none"}`, {
    advice: exits[0] === undefined ? "exitnode status" : `exitnode use ${exits[0]}`,
  });
}

export function offers(peer: MapPeer, family: 4 | 6): boolean {
  return peer.routes.some((route) => DEFAULT_ROUTES.includes(route) && familyOf(route) === family);
}

export function wantInterface(
  config: AgentConfig,
  privateKey: Key,
  map: NetworkMap,
  choice: Choice,
  endpointOf: (peer: MapPeer) => Endpoint | undefined,
): WantInterface {
  const exit = exitOf(map, choice);
  return {
    name: config.interface,
    privateKey,
    listenPort: config.listenPort,
    mtu: map.mtu,
    fwmark: FWMARK,
    peers: map.peers.map((peer) => {
      const endpoint = endpointOf(peer);
      return {
        publicKey: peer.publicKey,
        allowedIps: allowedIps(peer, peer === exit),
        persistentKeepaliveSeconds: peer === exit ? KEEPALIVE_SECONDS : 0,
        ...(endpoint === undefined ? {} : { endpoint }),
      };
    }),
  };
}

/** The interface with a keepalive towards peers that were heard from before: it makes WireGuard call them at once. */
export function greetHeard(want: WantInterface, heard: Readonly<Record<string, unknown>>): WantInterface {
  const greet = (peer: WantPeer): WantPeer =>
    heard[peer.publicKey] === undefined ? peer : { ...peer, persistentKeepaliveSeconds: KEEPALIVE_SECONDS };
  return { ...want, peers: want.peers.map(greet) };
}

function allowedIps(peer: MapPeer, inUse: boolean): Cidr[] {
  const own = peer.addresses.map(hostCidr);
  const routed = peer.routes.filter((route) => inUse || !DEFAULT_ROUTES.includes(route));
  return [...own, ...routed];
}

/** What goes into the tunnel: the network's own ranges and, while an exit is chosen, everything, reachable or not. */
export function tunnelRoutes(map: NetworkMap, choice: Choice): Cidr[] {
  const subnets = map.peers.flatMap((peer) => peer.routes.filter((route) => !DEFAULT_ROUTES.includes(route)));
  // Both families even when the exit has only one: what it cannot carry must not leave by the café instead.
  const all = choice.exit === undefined ? [] : (DEFAULT_ROUTES as readonly Cidr[]);
  return [...new Set([...map.ranges, ...subnets, ...all])];
}
