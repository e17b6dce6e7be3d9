import type { Millis } from "../../kit/time.js";
import type { NetworkSettings } from "../../wire/adminapi.js";
import type { Device } from "../device.js";
import type { StoredKey } from "../joinkeys.js";
import { keyExpiryOf } from "../networksettings.js";

/** A person's word at the door stands for a join key: it lets this one machine in, as theirs. */
export const personKey = (userId: string, settings: NetworkSettings, now: Millis): StoredKey => ({
  id: `user:${userId}`,
  secretHash: "",
  role: "device",
  reusable: false,
  createdAtMs: now,
  expiresAtMs: now + 1,
  userId,
  tags: [],
  ephemeral: false,
  preapproved: !settings.approvalRequired,
});

/** The device after its person has signed in again; undefined: it is somebody else's. */
export function signedIn(device: Device, userId: string, settings: NetworkSettings, now: Millis): Device | undefined {
  if (device.userId !== undefined && device.userId !== userId) return undefined;
  const { keyExpiresAtMs: _, ...rest } = { ...device, userId };
  const end = keyExpiryOf(rest, settings, now);
  return end === undefined ? rest : { ...rest, keyExpiresAtMs: end };
}
