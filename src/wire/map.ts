import * as z from "zod";
import { deviceLock, lockSignature, mapLock } from "./lock.js";
import { mapNames } from "./names.js";
import { cidr, deviceName, ip, key, role } from "./schema.js";

/**
 * The network map: what a device needs to know. It comes whole first and then as deltas; a device keeps the last one
 * on disk and runs on it while the coordinator is away.
 */
export const PEERS_MAX = 16_384;
export const ENDPOINTS_MAX = 16;
export const RELAYS_MAX = 16;
export const TAGS_MAX = 16;

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

/** Whose a device is, as the policy sees it: a person's, or what its tags say. Neither: the network's own. */
export const owned = {
  /** The person's login. */
  user: z.string().max(254).optional(),
  /** Without "tag:". */
  tags: z.array(deviceName).max(TAGS_MAX).optional(),
};

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
  ...owned,
  /** A WireGuard app: it knows the exit node that is told of it, and nothing of coordinators, relays or probes. */
  app: z.literal(true).optional(),
  /** Where the network has a device lock. */
  lock: deviceLock.optional(),
});
export type MapPeer = z.infer<typeof mapPeer>;

/** Why a device that is in has no peers: for an administrator, or for its person to sign in again. */
export const waiting = z.enum(["approval", "key-expired"]);
export type Waiting = z.infer<typeof waiting>;

/** A device in its own map. */
export const mapSelf = z.object({
  id: z.string().max(64),
  name: deviceName,
  role,
  addresses: z.array(ip).max(4),
  ...owned,
  waiting: waiting.optional(),
  keyExpiresAtMs: z.number().optional(),
  /** From then on it is to have another WireGuard key, which its agent makes by itself. */
  rotateAtMs: z.number().optional(),
  /** A trusted device's, over this one's lock key. */
  lockSignature: lockSignature.optional(),
});
export type MapSelf = z.infer<typeof mapSelf>;

/** Rules of one device's filter, prefixes of one rule, port ranges of one rule: a policy beyond them is refused. */
export const FILTER_RULES_MAX = 4_096;
export const FILTER_PREFIXES_MAX = 2 * PEERS_MAX;
export const FILTER_PORTS_MAX = 64;

const port = z.number().int().min(0).max(65_535);

/** What a device lets in from the tunnel; answers to what it began itself need no rule. */
export const filterRule = z.object({
  from: z.array(cidr).max(FILTER_PREFIXES_MAX),
  to: z.array(cidr).max(FILTER_PREFIXES_MAX),
  protocol: z.enum(["any", "tcp", "udp", "icmp"]),
  /** First and last; absent: all of them. */
  ports: z
    .array(z.tuple([port, port]))
    .max(FILTER_PORTS_MAX)
    .optional(),
  /** For what the device passes on, as an exit node does to the Internet, and not for the device itself. */
  routed: z.literal(true).optional(),
});
export type FilterRule = z.infer<typeof filterRule>;

export const networkMap = z.object({
  /** Grows with every change of this device's map. */
  seq: z.number().int().nonnegative(),
  self: mapSelf,
  /** The whole network's ranges: what a device routes to the tunnel whatever exit it uses. */
  ranges: z.array(cidr).max(4),
  mtu: z.number().int().min(1280).max(9000),
  /** Services that answer a GET with the caller's address in plain text. */
  whoami: z.array(z.url()).max(8).optional(),
  peers: z.array(mapPeer).max(PEERS_MAX),
  relays: z.array(mapRelay).max(RELAYS_MAX).optional(),
  /** Enforced by this device on what comes out of the tunnel; absent: everything that has an address of the network. */
  filter: z.array(filterRule).max(FILTER_RULES_MAX).optional(),
  /** Absent from a coordinator that knows nothing of names. */
  names: mapNames.optional(),
  /** Who may sign for devices; absent: the network has never had a device lock. */
  lock: mapLock.optional(),
  /** Where the coordinator is from now on, before all that a device was told when it joined: it may have moved. */
  coordinatorUrls: z.array(z.url().max(256)).max(8).optional(),
});
export type NetworkMap = z.infer<typeof networkMap>;

/** Everything in a map but its number and its peers. */
export const mapHead = networkMap.omit({ seq: true, peers: true });
export type MapHead = z.infer<typeof mapHead>;

/**
 * From the map numbered `base` to the one numbered `seq`. Peers are told apart by id. The keys of `removed` come first
 * in the text: whoever is to be shut out is, before anything else is looked at.
 */
export const mapDelta = z.object({
  base: z.number().int().nonnegative(),
  seq: z.number().int().nonnegative(),
  removed: z.array(z.string().max(64)).max(PEERS_MAX).optional(),
  /** New ones, and those of which anything has changed. */
  set: z.array(mapPeer).max(PEERS_MAX).optional(),
  /** The head's parts that have changed, each whole. */
  head: mapHead.partial().optional(),
  /** The head's parts that are no more. */
  cleared: z.array(z.string().max(64)).max(64).optional(),
});
export type MapDelta = z.infer<typeof mapDelta>;
