import { toHex } from "../kit/bytes.js";
import { Failure } from "../kit/failure.js";
import type { Cidr } from "../kit/ip.js";
import type { Key } from "../kit/key.js";
import type { Millis } from "../kit/time.js";
import type { Random } from "../sys/random.js";
import type { KeyInfo } from "../wire/adminapi.js";
import type { DeviceReport, Refusal } from "../wire/control.js";
import { PEERS_MAX } from "../wire/map.js";
import type { Role } from "../wire/schema.js";
import type { Actor } from "./actor.js";
import { type Device, isMember } from "./device.js";
import { admit, type Hello } from "./entrance.js";
import {
  describeKey,
  forgettableKeys,
  hashSecret,
  KEYS_MAX,
  SECRET_BYTES,
  type StoredKey,
  secretText,
} from "./joinkeys.js";
import type { Store, StoreView } from "./store/store.js";

/** A device's own entry is not among its peers, hence one more. */
export const DEVICES_MAX = PEERS_MAX + 1;

export type RegistryParts = {
  readonly store: Store;
  readonly range: Cidr;
  readonly random: Random;
  readonly wall: () => Millis;
};

export type Wanted = {
  readonly role: Role;
  readonly lifetimeMs: Millis;
  readonly name?: string | undefined;
  readonly reusable: boolean;
  readonly userId?: string | undefined;
  readonly tags?: readonly string[] | undefined;
  readonly ephemeral?: boolean | undefined;
  readonly preapproved?: boolean | undefined;
};

/** The devices and keys: in memory to be read, in the store to last; changes happen one after the other. */
export class Registry {
  readonly #parts: RegistryParts;
  readonly #devices = new Map<string, Device>();
  #last: Promise<unknown> = Promise.resolve();

  private constructor(parts: RegistryParts) {
    this.#parts = parts;
  }

  static async open(parts: RegistryParts): Promise<Registry> {
    const registry = new Registry(parts);
    for (const device of await parts.store.view.devices.all()) registry.#devices.set(device.id, device);
    return registry;
  }

  /** Revoked ones too, in the order they joined. */
  get devices(): ReadonlyMap<string, Device> {
    return this.#devices;
  }

  /** By id or by name. */
  find(idOrName: string): Device {
    const device = this.#devices.get(idOrName) ?? [...this.#devices.values()].find(({ name }) => name === idOrName);
    if (device === undefined)
      throw new Failure("device-unknown", `no device is called "${idOrName}"`, { advice: "exitnode device list" });
    return device;
  }

  hello(machineKey: Key, hello: Hello, remote: string): Promise<{ device: Device } | { refusal: Refusal }> {
    return this.#inTurn(async () => {
      const { store, range, random, wall } = this.#parts;
      const { joinSecret } = hello;
      const joinKey = joinSecret === undefined ? undefined : await store.view.joinKeys.bySecret(hashSecret(joinSecret));
      const network = { devices: [...this.#devices.values()], range, ula: store.ula, devicesMax: DEVICES_MAX };
      const entrance = admit(network, hello, machineKey, joinKey, `d${toHex(random(8))}`, wall());
      switch (entrance.kind) {
        case "refused":
          return { refusal: entrance.code };
        case "known":
          await this.#update({ ...entrance.device, lastSeenAtMs: wall() });
          return { device: entrance.device };
        case "new":
          await this.#join(entrance.device, entrance.by, { name: `device:${entrance.device.id}`, remote });
          return { device: entrance.device };
      }
    });
  }

  /** True when the report says something new. */
  report(id: string, report: DeviceReport): Promise<boolean> {
    return this.#inTurn(async () => {
      const device = this.#devices.get(id);
      if (device === undefined || !isMember(device)) return false;
      if (JSON.stringify(device.report) === JSON.stringify(report)) return false;
      await this.#update({ ...device, report });
      return true;
    });
  }

  /** Notes that the device was there until now. */
  seen(id: string): Promise<void> {
    return this.#inTurn(async () => {
      const device = this.#devices.get(id);
      if (device === undefined) return;
      const at = this.#parts.wall();
      await this.#parts.store.view.devices.seen(id, at);
      this.#devices.set(id, { ...device, lastSeenAtMs: at });
    });
  }

  /** Revoking twice keeps the first moment. */
  revoke(idOrName: string, by: Actor): Promise<Device> {
    return this.#inTurn(async () => {
      const device = this.find(idOrName);
      const revoked = { ...device, revokedAtMs: device.revokedAtMs ?? this.#parts.wall() };
      await this.#update(revoked, { by, action: "device.revoke" });
      return revoked;
    });
  }

  remove(id: string, by: Actor): Promise<void> {
    return this.#inTurn(async () => {
      await this.#parts.store.change(async (view) => {
        await view.devices.remove(id);
        await this.#note(view, by, "device.remove", id, { name: this.#devices.get(id)?.name });
      });
      this.#devices.delete(id);
    });
  }

  createKey(wanted: Wanted, by: Actor): Promise<{ info: KeyInfo; secret: string }> {
    return this.#inTurn(async () => {
      const { store, random, wall } = this.#parts;
      const now = wall();
      const keys = await store.view.joinKeys.all();
      const forgotten = forgettableKeys(keys, now);
      if (keys.length - forgotten.length >= KEYS_MAX)
        throw new Failure("keys-full", `${KEYS_MAX} join keys are valid already, and no more are kept`, {
          advice: "exitnode key list, then: exitnode key revoke <id>",
        });
      const secret = secretText(random(SECRET_BYTES));
      const { role, lifetimeMs, name, reusable } = wanted;
      const key: StoredKey = {
        id: `k${toHex(random(6))}`,
        secretHash: hashSecret(secret),
        role,
        ...(name === undefined ? {} : { name }),
        reusable,
        createdAtMs: now,
        expiresAtMs: now + lifetimeMs,
        ...(wanted.userId === undefined ? {} : { userId: wanted.userId }),
        tags: wanted.tags ?? [],
        ephemeral: wanted.ephemeral ?? false,
        preapproved: wanted.preapproved ?? true,
      };
      await store.change(async (view) => {
        await view.joinKeys.forget(forgotten);
        await view.joinKeys.add(key);
        await this.#note(view, by, "key.create", key.id, { role, name, reusable });
      });
      return { info: describeKey(key, now), secret };
    });
  }

  async keys(): Promise<KeyInfo[]> {
    const now = this.#parts.wall();
    return (await this.#parts.store.view.joinKeys.all()).map((key) => describeKey(key, now));
  }

  revokeKey(id: string, by: Actor): Promise<void> {
    return this.#inTurn(() =>
      this.#parts.store.change(async (view) => {
        if (!(await view.joinKeys.revoke(id, this.#parts.wall())))
          throw new Failure("key-unknown", `no join key has the id "${id}"`, { advice: "exitnode key list" });
        await this.#note(view, by, "key.revoke", id);
      }),
    );
  }

  /** Fulfilled when every change begun is in the store. */
  async settled(): Promise<void> {
    await this.#last;
  }

  async #join(device: Device, key: StoredKey, by: Actor): Promise<void> {
    await this.#parts.store.change(async (view) => {
      await view.joinKeys.use(key.id, device.machineKey, this.#parts.wall());
      await view.devices.add(device, key.id);
      await this.#note(view, by, "device.join", device.id, { name: device.name, role: device.role, key: key.id });
    });
    this.#devices.set(device.id, device);
  }

  async #update(device: Device, why?: { readonly by: Actor; readonly action: string }): Promise<void> {
    await this.#parts.store.change(async (view) => {
      await view.devices.update(device);
      if (why !== undefined) await this.#note(view, why.by, why.action, device.id, { name: device.name });
    });
    this.#devices.set(device.id, device);
  }

  async #note(view: StoreView, by: Actor, action: string, target: string, details = {}): Promise<void> {
    await view.audit.append({ at: this.#parts.wall(), by, action, target, details });
  }

  /** Two joins at once must not get one address. */
  #inTurn<T>(change: () => Promise<T>): Promise<T> {
    const result = this.#last.then(change);
    this.#last = result.catch(() => undefined);
    return result;
  }
}
