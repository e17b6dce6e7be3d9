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
import type { Store } from "./store.js";

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
    for (const device of await parts.store.devices()) registry.#devices.set(device.id, device);
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

  hello(machineKey: Key, hello: Hello): Promise<{ device: Device } | { refusal: Refusal }> {
    return this.#inTurn(async () => {
      const { store, range, random, wall } = this.#parts;
      const joinKey = hello.joinSecret === undefined ? undefined : await store.keyOf(hashSecret(hello.joinSecret));
      const network = { devices: [...this.#devices.values()], range, ula: store.ula, devicesMax: DEVICES_MAX };
      const entrance = admit(network, hello, machineKey, joinKey, `d${toHex(random(8))}`, wall());
      switch (entrance.kind) {
        case "refused":
          return { refusal: entrance.code };
        case "known":
          await this.#update({ ...entrance.device, lastSeenAtMs: wall() });
          return { device: entrance.device };
        case "new":
          await store.join(entrance.device, entrance.by, wall());
          this.#devices.set(entrance.device.id, entrance.device);
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
      if (device !== undefined) await this.#update({ ...device, lastSeenAtMs: this.#parts.wall() });
    });
  }

  /** Revoking twice keeps the first moment. */
  revoke(idOrName: string): Promise<Device> {
    return this.#inTurn(async () => {
      const device = this.find(idOrName);
      const revoked = { ...device, revokedAtMs: device.revokedAtMs ?? this.#parts.wall() };
      await this.#update(revoked);
      return revoked;
    });
  }

  remove(id: string): Promise<void> {
    return this.#inTurn(async () => {
      await this.#parts.store.remove(id);
      this.#devices.delete(id);
    });
  }

  createKey(wanted: Wanted): Promise<{ info: KeyInfo; secret: string }> {
    return this.#inTurn(async () => {
      const { store, random, wall } = this.#parts;
      const now = wall();
      const keys = await store.keys();
      const forgotten = forgettableKeys(keys, now);
      await store.forgetKeys(forgotten);
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
      };
      await store.addKey(key);
      return { info: describeKey(key, now), secret };
    });
  }

  async keys(): Promise<KeyInfo[]> {
    const now = this.#parts.wall();
    return (await this.#parts.store.keys()).map((key) => describeKey(key, now));
  }

  revokeKey(id: string): Promise<void> {
    return this.#inTurn(async () => {
      if (await this.#parts.store.revokeKey(id, this.#parts.wall())) return;
      throw new Failure("key-unknown", `no join key has the id "${id}"`, { advice: "exitnode key list" });
    });
  }

  /** Fulfilled when every change begun is in the store. */
  async settled(): Promise<void> {
    await this.#last;
  }

  async #update(device: Device): Promise<void> {
    await this.#parts.store.update(device);
    this.#devices.set(device.id, device);
  }

  /** Two joins at once must not get one address. */
  #inTurn<T>(change: () => Promise<T>): Promise<T> {
    const result = this.#last.then(change);
    this.#last = result.catch(() => undefined);
    return result;
  }
}
