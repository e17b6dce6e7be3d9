import type { Millis } from "../kit/time.js";
import type { Random } from "../sys/random.js";
import type { NetworkSettings } from "../wire/adminapi.js";
import type { Device } from "./device.js";
import type { Hello } from "./entrance.js";

/** What agents say that make themselves new WireGuard keys when their map wants it. */
const ROTATES = "rotate";
/** Devices that came at once change their keys over this part of the time before the last moment. */
const JITTER = 0.25;

export type Pace = Pick<NetworkSettings, "keyRotationMs" | "exitKeyLifetimeMs">;

/** Of an exit node that WireGuard apps know by its key: they could not be told of another. */
export const KEPT: Pace = { keyRotationMs: 0, exitKeyLifetimeMs: 0 };

/**
 * The device with its WireGuard key as new: when its agent is to make the next one and, of an exit node, until when
 * this one counts. Half of an exit node's time is left when it is to begin, and its new key counts also when it comes
 * late: that is what ended, and the machine key by which it is known does not end.
 */
export function withRotation(device: Device, pace: Pace, random: Random, now: Millis): Device {
  const lifetime = device.role === "exit-node" ? pace.exitKeyLifetimeMs : 0;
  const periods = [pace.keyRotationMs, lifetime / 2].filter((period) => period > 0);
  const [high = 0, low = 0] = random(2);
  const early = JITTER * ((high * 256 + low) / 65_536);
  return {
    ...withoutRotation(device),
    ...(periods.length === 0 ? {} : { rotateAtMs: now + Math.round(Math.min(...periods) * (1 - early)) }),
    ...(lifetime === 0 ? {} : { keyExpiresAtMs: now + lifetime }),
  };
}

/** For an agent that would let its key end. */
export function withoutRotation({ rotateAtMs: _, ...device }: Device): Device {
  if (device.role !== "exit-node") return device;
  const { keyExpiresAtMs: __, ...exit } = device;
  return exit;
}

/** Whether `rotated` leaves a device that came with the key it had as it is. */
export const isPaced = (device: Device, { speaks }: Pick<Hello, "speaks">): boolean =>
  (speaks?.includes(ROTATES) === true) === (device.rotateAtMs !== undefined);

/** The device that has said hello, `before` being what was known of it; `pace` is asked for when it is needed. */
export async function rotated(
  device: Device,
  before: Device | undefined,
  { speaks }: Pick<Hello, "speaks">,
  pace: () => Promise<Pace>,
  random: Random,
  now: Millis,
): Promise<Device> {
  if (speaks?.includes(ROTATES) !== true) return withoutRotation(device);
  const isNew = before?.publicKey !== device.publicKey || device.rotateAtMs === undefined;
  return isNew ? withRotation(device, await pace(), random, now) : device;
}
