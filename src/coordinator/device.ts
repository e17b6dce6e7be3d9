import type { Cidr, Ip } from "../kit/ip.js";
import type { Key } from "../kit/key.js";
import type { Millis } from "../kit/time.js";
import type { DeviceReport } from "../wire/control.js";
import type { DeviceLock } from "../wire/lock.js";
import type { Waiting } from "../wire/map.js";
import type { Role } from "../wire/schema.js";

/** A member of the network, as the store keeps it. Values are never changed in place: a change is a new value. */
export type Device = {
  readonly id: string;
  readonly name: string;
  /** What it asked to be called; `name` differs when that was taken or its join key named it. */
  readonly wantedName: string;
  readonly role: Role;
  /** Its static Noise key: the identity that outlives everything else. */
  readonly machineKey: Key;
  /** Its WireGuard key. */
  readonly publicKey: Key;
  readonly ipv4: Ip;
  readonly ipv6: Ip;
  readonly report: DeviceReport;
  readonly agentVersion: string;
  readonly createdAtMs: Millis;
  readonly lastSeenAtMs?: Millis;
  readonly revokedAtMs?: Millis;
  /** Whose it is; undefined: the network's own, as an exit node, or one that joined by a key of no person. */
  readonly userId?: string;
  /** Without "tag:". A tagged device acts as its tags and not as its user. */
  readonly tags: readonly string[];
  /** Forgotten when it leaves. */
  readonly ephemeral: boolean;
  /** Undefined: it waits for an administrator and knows nobody. */
  readonly approvedAtMs?: Millis;
  /**
   * From then on its peers do without it: until its person signs in again or, of an exit node, until its agent has made
   * another WireGuard key. Undefined: never.
   */
  readonly keyExpiresAtMs?: Millis;
  /** When its agent is to make itself another WireGuard key; undefined: it is not to, or does not know how. */
  readonly rotateAtMs?: Millis;
  /** Approved by an administrator, beyond what its role gives. */
  readonly approvedRoutes: readonly Cidr[];
  /** Its lock key, what that says of its other keys and, where the network has a device lock, who signed for it. */
  readonly lock?: DeviceLock;
  /** In place of an agent. */
  readonly app?: App;
};

/** A WireGuard app: what it was configured with stays as it is, for nobody can tell it anything. */
export type App = {
  /** The exit node that is its only peer, by id: it may be no more. */
  readonly exitId: string;
  /** The key that it knows that one by. */
  readonly exitKey: Key;
  /** HOST:PORT, which it dials. */
  readonly endpoint: string;
};

/** Whether the two can be peers at all, whatever the policy says: an app has its exit node and nobody else. */
export function canMeet(one: Device, other: Device): boolean {
  return (one.app?.exitId ?? other.id) === other.id && (other.app?.exitId ?? one.id) === one.id;
}

/** Who is in, approved or not. */
export const isMember = (device: Device): boolean => device.revokedAtMs === undefined;
/** Every member whose peers may know of it. */
export const isActive = (device: Device, now: Millis): boolean =>
  isMember(device) && device.approvedAtMs !== undefined && now < (device.keyExpiresAtMs ?? Number.POSITIVE_INFINITY);

/** What keeps a connected member from its peers; undefined: nothing. */
export function waitingOf(device: Device, now: Millis): Waiting | undefined {
  if (device.approvedAtMs === undefined) return "approval";
  return isActive(device, now) ? undefined : "key-expired";
}
