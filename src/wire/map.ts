import * as z from "zod";
import { cidr, deviceName, ip, key, role } from "./schema.js";

/**
 * The network map: what a device needs to know. The coordinator sends a whole map on every change; a device
 * keeps the last one on disk and runs on it while the coordinator is away.
 */
export const PEERS_MAX = 4_096;
export const ENDPOINTS_MAX = 16;
export const RELAYS_MAX = 16;

/** A relay of the network: forwards sealed datagrams, and answers STUN on the same host. */
export const mapRelay = z.object({
  id: z.string().min(1).max(64),
  name: z.string().min(1).max(64),
  /** https://host:port */
  url: z.url().max(256),
  /** Every way to it, where there are several, as inside and outside of a home; `url` is the one for strangers. */
  urls: z.array(z.url().max(256)).max(8).optional(),
  /** Its Noise key: whatever is in between cannot stand in for it. */
  relayKey: key,
  /** 0: it answers no STUN. */
  stunPort: z.number().int().min(0).max(65_535),
  /** A second port of the same server: without it, a network of one relay cannot tell its devices' NATs apart. */
  otherStunPort: z.number().int().min(1).max(65_535).optional(),
});
export type MapRelay = z.infer<typeof mapRelay>;

export const mapPeer = z.object({
  id: z.string().max(64),
  name: deviceName,
  role,
  publicKey: key,
  /** The peer's own tunnel addresses, IPv4 first. */
  addresses: z.array(ip).max(4),
  /** Approved routes beyond its own addresses; an exit node has 0.0.0.0/0 and, when it has IPv6, ::/0. */
  routes: z.array(cidr).max(64),
  /** Where it may be reached, most promising first. Empty: it has to call us. */
  endpoints: z.array(z.string()).max(ENDPOINTS_MAX),
  /** Resolvers that answer through this exit node. */
  resolvers: z.array(ip).max(4),
  online: z.boolean(),
  /** Seals probes between the two devices; without it none are sent, and endpoints are tried one after another. */
  discoveryKey: key.optional(),
  /** The relay at which it is always connected, by id. */
  homeRelay: z.string().max(64).optional(),
});
export type MapPeer = z.infer<typeof mapPeer>;

export const networkMap = z.object({
  /** Grows with every change of this device's map. */
  seq: z.number().int().nonnegative(),
  self: z.object({ id: z.string().max(64), name: deviceName, role, addresses: z.array(ip).max(4) }),
  /** The whole network's ranges: what a device routes to the tunnel whatever exit it uses. */
  ranges: z.array(cidr).max(4),
  mtu: z.number().int().min(1280).max(9000),
  /** Services that answer a GET with the caller's address in plain text. */
  whoami: z.array(z.url()).max(8).optional(),
  peers: z.array(mapPeer).max(PEERS_MAX),
  relays: z.array(mapRelay).max(RELAYS_MAX).optional(),
});
export type NetworkMap = z.infer<typeof networkMap>;
