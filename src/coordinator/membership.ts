import { toHex } from "../kit/bytes.js";
import { Failure } from "../kit/failure.js";
import { KEY_BYTES, keyOf } from "../kit/key.js";
import type { Millis } from "../kit/time.js";
import type { Random } from "../sys/random.js";
import type { DeviceRequest, NetworkSettings, SettingsRequest } from "../wire/adminapi.js";
import type { Actor } from "./actor.js";
import { exitFor, newApp, type WantedApp } from "./apps.js";
import { type Device, isMember } from "./device.js";
import { readSettings, withKeyExpiry, writeSettings } from "./networksettings.js";
import type { DeviceChange, Registry } from "./registry.js";
import { withoutRotation, withRotation } from "./rotation.js";
import type { Store } from "./store/store.js";

export type MembershipParts = {
  readonly registry: Registry;
  readonly store: Store;
  readonly random: Random;
  /** Tells whom it concerns. */
  readonly changed: (change: DeviceChange) => void;
};

/** What administrators decide about a device that is in: whether it may speak, as whom, and for how long. */
export class Membership {
  readonly #parts: MembershipParts;

  constructor(parts: MembershipParts) {
    this.#parts = parts;
  }

  /**
   * Lets a WireGuard app in: at once, where an administrator does. `judge` throws when it would be of no use. Its exit
   * node keeps its key from now on, for nobody could tell the app of another one.
   */
  async add(
    wanted: WantedApp & { readonly byAdministrator: boolean },
    by: Actor,
    judge: (app: Device, exit: Device) => void,
  ): Promise<{ app: Device; exit: Device }> {
    const { registry, random, changed } = this.#parts;
    const { app, before, exit } = await registry.change(async ({ view, now, put, note }) => {
      const { devices } = registry.network;
      const before = exitFor(devices.values(), wanted);
      const isApproved = wanted.byAdministrator || !(await readSettings(view)).approvalRequired;
      const made = {
        id: `d${toHex(random(8))}`,
        // Of these bytes nobody knows the private half, so that nobody can say hello as the app.
        machineKey: keyOf(random(KEY_BYTES)),
        approvedAtMs: isApproved ? now : undefined,
      };
      const app = newApp(registry.network, before, wanted, made, now);
      judge(app, before);
      // All its peers hear of a change of the exit node: only where there is one.
      const isKept = before.rotateAtMs === undefined && before.keyExpiresAtMs === undefined;
      const exit = isKept ? before : withoutRotation(before);
      if (exit !== before) await put(exit);
      await put(app);
      note(by, "device.add", app.id, { name: app.name, exit: exit.name, endpoint: app.app?.endpoint });
      return { app, before, exit };
    });
    if (exit !== before) changed({ before, after: exit });
    changed({ before: undefined, after: app });
    return { app, exit };
  }

  approve(idOrName: string, by: Actor): Promise<Device> {
    return this.#amend(idOrName, by, "device.approve", (device, now, settings) =>
      device.approvedAtMs !== undefined
        ? device
        : // Its time begins when it gets in, not when it knocked.
          withKeyExpiry({ ...device, approvedAtMs: now }, settings, now),
    );
  }

  /** All that is asked for, or nothing of it. */
  amend(idOrName: string, wanted: DeviceRequest, by: Actor): Promise<Device> {
    const words = [
      ...(wanted.name === undefined ? [] : ["rename"]),
      ...(wanted.tags === undefined ? [] : ["tag"]),
      ...(wanted.key === undefined ? [] : [wanted.key === "expires-now" ? "expire" : "never-expire"]),
    ];
    return this.#amend(idOrName, by, `device.${words.join("-and-") || "amend"}`, (device, now, settings) => {
      let after = device;
      if (wanted.name !== undefined) after = this.#renamed(after, wanted.name);
      if (wanted.tags !== undefined) after = tagged(after, wanted.tags, settings, now);
      if (wanted.key !== undefined) after = wanted.key === "expires-now" ? expired(after, now) : unending(after);
      return after;
    });
  }

  settings(): Promise<NetworkSettings> {
    return readSettings(this.#parts.store.view);
  }

  /** For devices and keys from now on: who is in stays in. How often WireGuard keys change holds for all at once. */
  async decide(wanted: SettingsRequest, by: Actor): Promise<NetworkSettings> {
    const { registry, random, changed } = this.#parts;
    const changes: DeviceChange[] = [];
    const settings = await registry.change(async ({ view, now, put, note }) => {
      const old = await readSettings(view);
      const settings = await writeSettings(view, wanted);
      note(by, "settings.change", "network", wanted);
      if (settings.keyRotationMs === old.keyRotationMs && settings.exitKeyLifetimeMs === old.exitKeyLifetimeMs)
        return settings;
      for (const before of registry.devices.values()) {
        // Whose agent changes no keys, or has not said so yet, is told when it comes.
        if (before.rotateAtMs === undefined || !isMember(before)) continue;
        const after = withRotation(before, settings, random, now);
        await put(after);
        changes.push({ before, after });
      }
      return settings;
    });
    for (const change of changes) changed(change);
    return settings;
  }

  #renamed(device: Device, name: string): Device {
    const { devices } = this.#parts.registry;
    for (const other of devices.values())
      if (other.id !== device.id && other.name === name)
        throw new Failure("name-taken", `a device is called "${name}" already`, { advice: "exitnode device list" });
    return { ...device, name };
  }

  async #amend(
    idOrName: string,
    by: Actor,
    action: string,
    amended: (device: Device, now: Millis, settings: NetworkSettings) => Device,
  ): Promise<Device> {
    const { registry, store, changed } = this.#parts;
    const settings = await readSettings(store.view);
    let before: Device | undefined;
    const after = await registry.amend(idOrName, by, action, (device, now) => {
      if (!isMember(device))
        throw new Failure("device-revoked", `${device.name} was revoked, which cannot be undone`, {
          advice: `exitnode device remove ${device.name}    (it may join again then)`,
        });
      before = device;
      return amended(device, now, settings);
    });
    if (before !== after) changed({ before, after });
    return after;
  }
}

const unending = ({ keyExpiresAtMs: _, ...device }: Device): Device => device;

/** A tagged device acts as its tags: its key does not end. */
function tagged(device: Device, tags: readonly string[], settings: NetworkSettings, now: Millis): Device {
  const after: Device = { ...device, tags: [...new Set(tags)].sort() };
  const isAsBefore = after.tags.length > 0 === device.tags.length > 0;
  return isAsBefore ? after : withKeyExpiry(after, settings, now);
}

/** From now on its peers do without it. An exit node would have nobody to renew it. */
function expired(device: Device, now: Millis): Device {
  if (device.role === "exit-node")
    throw new Failure(
      "device-never-expires",
      `${device.name} is an exit node, and an exit node's key does not expire`,
      {
        advice: `exitnode device revoke ${device.name}    (shuts it out for good)`,
      },
    );
  return { ...device, keyExpiresAtMs: Math.min(device.keyExpiresAtMs ?? now, now) };
}
