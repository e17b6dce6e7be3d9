import type { Cidr } from "../kit/ip.js";
import type { MapPeer, MapRelay, NetworkMap } from "../wire/map.js";
import type { Device } from "./device.js";
import { usableEndpoints } from "./endpoints.js";
import { approvedRoutes } from "./routes.js";

/** What is the same in everybody's map. */
export type NetworkFacts = {
  readonly ranges: readonly Cidr[];
  readonly mtu: number;
  readonly whoami: readonly string[];
  /** Replaced, never changed in place. */
  readonly relays: readonly MapRelay[];
};

/** A device as its peers see it. */
export function peerOf(device: Device, online: boolean, facts: NetworkFacts): MapPeer {
  // Whatever else a device resolves with is its own business: only an exit node's answer for others.
  const resolvers = device.role === "exit-node" ? device.report.resolvers : [];
  return { ...outlineOf(device, online, facts), resolvers };
}

/** What peers and administrators alike are told of a device. */
export function outlineOf(device: Device, online: boolean, facts: NetworkFacts): Omit<MapPeer, "resolvers"> {
  const { discoveryKey, homeRelay } = device.report;
  // A home that is no relay of ours would send its peers nowhere.
  const home = facts.relays.some(({ id }) => id === homeRelay) ? homeRelay : undefined;
  return {
    id: device.id,
    name: device.name,
    role: device.role,
    publicKey: device.publicKey,
    addresses: [device.ipv4, device.ipv6],
    routes: approvedRoutes(device.role, device.report.routes),
    endpoints: usableEndpoints(device.report.endpoints, facts.ranges),
    online,
    ...(discoveryKey === undefined ? {} : { discoveryKey }),
    ...(home === undefined ? {} : { homeRelay: home }),
  };
}

/**
 * A device's map as JSON text, from its peers' own JSON: with n devices n maps of n peers each are made at every
 * change, and each peer is turned into text once instead of n times.
 */
export function encodeMap(seq: number, self: Device, peers: readonly string[], facts: NetworkFacts): string {
  const head: Omit<NetworkMap, "peers"> = {
    seq,
    self: { id: self.id, name: self.name, role: self.role, addresses: [self.ipv4, self.ipv6] },
    ranges: [...facts.ranges],
    mtu: facts.mtu,
    ...(facts.whoami.length === 0 ? {} : { whoami: [...facts.whoami] }),
    ...(facts.relays.length === 0 ? {} : { relays: [...facts.relays] }),
  };
  const text = JSON.stringify(head);
  return `${text.slice(0, -1)},"peers":[${peers.join(",")}]}`;
}
