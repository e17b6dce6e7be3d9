import * as z from "zod";
import { HOUR, type Millis } from "../kit/time.js";
import { type NetworkSettings, networkSettings, type SettingsRequest } from "../wire/adminapi.js";
import type { Device } from "./device.js";
import type { StoreView } from "./store/store.js";

/** The setting's name in the store. */
const NETWORK = "network";

export const DEFAULT_SETTINGS: NetworkSettings = Object.freeze({
  approvalRequired: false,
  keyLifetimeMs: 180 * 24 * HOUR,
  keyRotationMs: 90 * 24 * HOUR,
  exitKeyLifetimeMs: 0,
});

/** What the administrators have decided for the whole network; what they have not, by default. */
export async function readSettings({ settings }: Pick<StoreView, "settings">): Promise<NetworkSettings> {
  return { ...DEFAULT_SETTINGS, ...(await settings.getJson(NETWORK, storedSettings)) };
}

/** Inside of a change. */
export async function writeSettings(
  view: Pick<StoreView, "settings">,
  wanted: SettingsRequest,
): Promise<NetworkSettings> {
  const now: NetworkSettings = { ...(await readSettings(view)), ...given(wanted) };
  await view.settings.set(NETWORK, JSON.stringify(now));
  return now;
}

/**
 * When the key of a device ends that shows itself now: a person's does, so that a lost laptop is not in for ever.
 * An exit node and a tagged device are nobody's, and nobody would sit there to sign in again.
 */
export function keyExpiryOf(
  device: Pick<Device, "role" | "userId" | "tags" | "app">,
  { keyLifetimeMs }: NetworkSettings,
  now: Millis,
): Millis | undefined {
  const isPersons = device.userId !== undefined && device.role === "device" && device.tags.length === 0;
  // Nobody can sign in with an app: it would fall silent one day, and could not say why.
  return isPersons && device.app === undefined && keyLifetimeMs > 0 ? now + keyLifetimeMs : undefined;
}

/** The device with the time of its key begun anew. */
export function withKeyExpiry(
  { keyExpiresAtMs: _, ...device }: Device,
  settings: NetworkSettings,
  now: Millis,
): Device {
  const end = keyExpiryOf(device, settings, now);
  return end === undefined ? device : { ...device, keyExpiresAtMs: end };
}

// An older version's settings may lack what came later.
const storedSettings: z.ZodType<Partial<NetworkSettings>> = z
  .object(networkSettings.shape)
  .partial()
  .transform((stored) => given(stored));

const given = <T extends object>(value: T): { [K in keyof T]?: Exclude<T[K], undefined> } =>
  Object.fromEntries(Object.entries(value).filter(([, one]) => one !== undefined)) as {
    [K in keyof T]?: Exclude<T[K], undefined>;
  };
