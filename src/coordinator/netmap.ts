import type { Cidr } from "../kit/ip.js";
import type { Millis } from "../kit/time.js";
import type { MapLock } from "../wire/lock.js";
import type { FilterRule, MapHead, MapPeer, MapRelay, MapSelf } from "../wire/map.js";
import type { MapNames } from "../wire/names.js";
import { type Device, waitingOf } from "./device.js";
import { usableEndpoints } from "./endpoints.js";
import { approvedRoutes } from "./routes.js";

/** What is the same in everybody's map. */
export type NetworkFacts = {
  readonly ranges: readonly Cidr[];
  readonly mtu: number;
  readonly whoami: readonly string[];
  /** Where devices reach the coordinator. */
  readonly coordinatorUrls?: readonly string[];
  /** Replaced, never changed in place. */
  readonly relays: readonly MapRelay[];
  /** Replaced, never changed in place. */
  readonly names?: MapNames;
  /** Replaced, never changed in place. */
  readonly lock?: MapLock | undefined;
  /** By which keys expire; without it, none does. */
  readonly wall?: () => Millis;
  /** People's logins by their ids: a person keeps theirs. */
  readonly loginOf?: (userId: string) => string | undefined;
};

/** A device as its peers see it. */
export function peerOf(device: Device, online: boolean, facts: NetworkFacts): MapPeer {
  // Whatever else a device resolves with is its own business: only an exit node's answer for others.
  const resolvers = device.role === "exit-node" ? device.report.resolvers : [];
  const lock = isLocked(facts) ? device.lock : undefined;
  return {
    ...outlineOf(device, online, facts),
    ...ownerOf(device, facts),
    resolvers,
    ...(device.app === undefined ? {} : { app: true as const }),
    ...(lock === undefined ? {} : { lock }),
  };
}

const isLocked = ({ lock }: NetworkFacts): boolean => lock !== undefined && lock.records.length > 0;

/** Whose it is, as the policy sees it: a tagged device acts as its tags, and not as its person. */
export function ownerOf({ userId, tags }: Device, { loginOf }: NetworkFacts): Pick<MapPeer, "user" | "tags"> {
  if (tags.length > 0) return { tags: [...tags] };
  const user = userId === undefined ? undefined : loginOf?.(userId);
  return user === undefined ? {} : { user };
}

/** What peers and administrators alike are told of a device. */
export function outlineOf(device: Device, online: boolean, facts: NetworkFacts): Omit<MapPeer, "resolvers" | "app"> {
  const { discoveryKey, homeRelay } = device.report;
  // A home that is no relay of ours would send its peers nowhere.
  const home = facts.relays.some(({ id }) => id === homeRelay) ? homeRelay : undefined;
  return {
    id: device.id,
    name: device.name,
    role: device.role,
    publicKey: device.publicKey,
    addresses: [device.ipv4, device.ipv6],
    routes: approvedRoutes(device),
    endpoints: usableEndpoints(device.report.endpoints, facts.ranges),
    online,
    ...(discoveryKey === undefined ? {} : { discoveryKey }),
    ...(home === undefined ? {} : { homeRelay: home }),
  };
}

export type HeadParts = { readonly [Part in keyof MapHead]: Readonly<MapHead[Part]> };

/** A device as it sees itself. */
export function selfOf(device: Device, facts: NetworkFacts): MapSelf {
  const now = facts.wall?.() ?? 0;
  const waiting = waitingOf(device, now);
  return {
    id: device.id,
    name: device.name,
    role: device.role,
    addresses: [device.ipv4, device.ipv6],
    ...ownerOf(device, facts),
    ...(waiting === undefined ? {} : { waiting }),
    ...(device.keyExpiresAtMs === undefined ? {} : { keyExpiresAtMs: device.keyExpiresAtMs }),
    ...(device.rotateAtMs === undefined ? {} : { rotateAtMs: device.rotateAtMs }),
    ...(isLocked(facts) && device.lock?.signature !== undefined ? { lockSignature: device.lock.signature } : {}),
  };
}

/** A device's map without its number and its peers. Parts that several devices share should be the same objects. */
export function headOf(self: Device, facts: NetworkFacts, filter?: readonly FilterRule[]): HeadParts {
  return {
    self: selfOf(self, facts),
    ranges: facts.ranges,
    mtu: facts.mtu,
    ...(facts.whoami.length === 0 ? {} : { whoami: facts.whoami }),
    ...(facts.coordinatorUrls === undefined ? {} : { coordinatorUrls: facts.coordinatorUrls }),
    ...(facts.relays.length === 0 ? {} : { relays: facts.relays }),
    ...(facts.names === undefined ? {} : { names: facts.names }),
    ...(facts.lock === undefined ? {} : { lock: facts.lock }),
    ...(filter === undefined ? {} : { filter }),
  };
}

/** By the value itself: the relays' text is the same for everybody, and long. */
const texts = new WeakMap<object, string>();

/** The JSON text of each part of a head. */
export function headTexts(head: HeadParts): Map<string, string> {
  const found = new Map<string, string>();
  for (const [name, value] of Object.entries(head)) if (value !== undefined) found.set(name, partText(value));
  return found;
}

function partText(value: unknown): string {
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  const known = texts.get(value);
  if (known !== undefined) return known;
  const text = JSON.stringify(value);
  texts.set(value, text);
  return text;
}

/**
 * A device's map as JSON text, from its peers' own JSON: with n devices n maps of n peers each may be made at a
 * change, and each peer is turned into text once instead of n times.
 */
export function encodeMap(seq: number, head: ReadonlyMap<string, string>, peers: readonly string[]): string {
  return `{"seq":${seq},${members(head)},"peers":[${peers.join(",")}]}`;
}

/** From the map numbered `base` to the one numbered `seq`; who is gone comes first. */
export function encodeDelta(
  numbers: { readonly base: number; readonly seq: number },
  removed: readonly string[],
  set: readonly string[],
  head: { readonly changed: ReadonlyMap<string, string>; readonly cleared: readonly string[] },
): string {
  const parts = [
    `"base":${numbers.base},"seq":${numbers.seq}`,
    ...(removed.length === 0 ? [] : [`"removed":${JSON.stringify(removed)}`]),
    ...(set.length === 0 ? [] : [`"set":[${set.join(",")}]`]),
    ...(head.changed.size === 0 ? [] : [`"head":{${members(head.changed)}}`]),
    ...(head.cleared.length === 0 ? [] : [`"cleared":${JSON.stringify(head.cleared)}`]),
  ];
  return `{${parts.join(",")}}`;
}

const members = (texts: ReadonlyMap<string, string>): string =>
  [...texts].map(([name, text]) => `${JSON.stringify(name)}:${text}`).join(",");
