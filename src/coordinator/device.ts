import type { Ip } from "../kit/ip.js";
import type { Key } from "../kit/key.js";
import type { Millis } from "../kit/time.js";
import type { DeviceReport } from "../wire/control.js";
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
};

/** Every member whose peers may know of it. */
export const isMember = (device: Device): boolean => device.revokedAtMs === undefined;
