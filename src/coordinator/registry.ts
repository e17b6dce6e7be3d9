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
import type { ChangeFeed } from "./changefeed.js";
import { type Device, isMember } from "./device.js";
import { admit, type Hello, renews } from "./entrance.js";
import { personKey, signedIn } from "./identity/personkey.js";
import {
  describeKey,
  forgettableKeys,
  hashSecret,
  KEYS_MAX,
  SECRET_BYTES,
  type StoredKey,
  secretText,
} from "./joinkeys.js";
import { readSettings, withKeyExpiry } from "./networksettings.js";
import { Roster } from "./roster.js";
import { sameDevice } from "./store/devices.js";
import type { Store, StoreView } from "./store/store.js";

/** A device's own entry is not among its peers, hence one more. */
export const DEVICES_MAX = PEERS_MAX + 1;

export type RegistryParts = {
  readonly store: Store;
  /** Where the store is shared: what other coordinators change. */
  readonly feed?: ChangeFeed;
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

/** A device as it was and as it is now; undefined: not there. */
export type DeviceChange = { readonly before: Device | undefined; readonly after: Device | undefined };

/** A change as it is made: what is written through `view`, and what memory is to hold once that lasts. */
export type Turn = {
  readonly view: StoreView;
  readonly now: Millis;
  /** Writes what differs from the device as it was, or adds it. */
  put(device: Device, joinKeyId?: string): Promise<void>;
  remove(id: string): Promise<void>;
  note(by: Actor, action: string, target: string, details?: Readonly<Record<string, unknown>>): Promise<void>;
};

/** The devices and keys: in memory to be read, in the store to last; changes happen one after the other. */
export class Registry {
  readonly #parts: RegistryParts;
  readonly #devices = new Roster();
  readonly #watchers = new Set<(changes: readonly DeviceChange[]) => void>();
  #last: Promise<unknown> = Promise.resolve();

  private constructor(parts: RegistryParts) {
    this.#parts = parts;
  }

  static async open(parts: RegistryParts): Promise<Registry> {
    const registry = new Registry(parts);
    parts.feed?.on("device", (view, ids) => registry.#reread(view, ids));
    for (const device of await parts.store.view.devices.all()) registry.#devices.set(device.id, device);
    return registry;
  }

  /** Revoked ones too, in the order they joined. */
  get devices(): ReadonlyMap<string, Device> & Pick<Roster, "version" | "changedSince"> {
    return this.#devices;
  }

  /** Calls back after devices were changed by another coordinator; what is changed here, its caller knows. */
  watch(watcher: (changes: readonly DeviceChange[]) => void): void {
    this.#watchers.add(watcher);
  }

  /** By id or by name. */
  find(idOrName: string): Device {
    const device = this.#devices.get(idOrName) ?? this.#devices.byName(idOrName);
    if (device === undefined)
      throw new Failure("device-unknown", `no device is called "${idOrName}"`, { advice: "exitnode device list" });
    return device;
  }

  /** One change, whole or not at all; `decide` sees the newest devices, and memory follows when the store has it. */
  change<T>(decide: (turn: Turn) => Promise<T>): Promise<T> {
    return this.#inTurn(async () => {
      const { store, feed, wall } = this.#parts;
      const after = new Map<string, Device | undefined>();
      const result = await store.change(async (view) => {
        await feed?.catchUp(view);
        const now = wall();
        return decide({
          view,
          now,
          put: async (device, joinKeyId) => {
            const before = this.#devices.get(device.id);
            if (before === undefined) await view.devices.add(device, joinKeyId ?? null);
            else await view.devices.update(after.get(device.id) ?? before, device);
            after.set(device.id, device);
          },
          remove: async (id) => {
            await view.devices.remove(id);
            after.set(id, undefined);
          },
          note: async (by, action, target, details = {}) => {
            await view.audit.append({ at: now, by, action, target, details });
          },
        });
      });
      for (const [id, device] of after)
        if (device === undefined) this.#devices.delete(id);
        else this.#devices.set(id, device);
      return result;
    });
  }

  /** Changes one device, by id or name; an equal value changes nothing and is not noted. */
  amend(
    idOrName: string,
    by: Actor,
    action: string,
    amended: (device: Device, now: Millis) => Device,
  ): Promise<Device> {
    return this.change(async ({ now, put, note }) => {
      const before = this.find(idOrName);
      const device = amended(before, now);
      if (sameDevice(before, device)) return before;
      await put(device);
      await note(by, action, device.id, { name: device.name });
      return device;
    });
  }

  /** Hears at once what other coordinators have changed. */
  catchUp(): Promise<void> {
    return this.#inTurn(async () => this.#parts.feed?.catchUp());
  }

  /** `userId` has signed in for this machine. */
  hello(
    machineKey: Key,
    hello: Hello,
    remote: string,
    userId?: string,
  ): Promise<{ device: Device } | { refusal: Refusal }> {
    return this.change(async ({ view, now, put, note }) => {
      const { store, range, random } = this.#parts;
      const { joinSecret } = hello;
      const person = userId === undefined ? undefined : { userId, settings: await readSettings(view) };
      const joinKey =
        person !== undefined
          ? personKey(person.userId, person.settings, now)
          : joinSecret === undefined
            ? undefined
            : await view.joinKeys.bySecret(hashSecret(joinSecret));
      const network = { devices: this.#devices, range, ula: store.ula, devicesMax: DEVICES_MAX };
      const entrance = admit(network, hello, machineKey, joinKey, `d${toHex(random(8))}`, now);
      if (entrance.kind === "refused") return { refusal: entrance.code };
      const isRenewed = person === undefined && entrance.kind === "known" && renews(entrance.device, joinKey, now);
      const device =
        person !== undefined
          ? signedIn(entrance.device, person.userId, person.settings, now)
          : isRenewed || (entrance.kind === "new" && entrance.device.approvedAtMs !== undefined)
            ? withKeyExpiry(entrance.device, await readSettings(view), now)
            : entrance.device;
      if (device === undefined) return { refusal: "sign-in-refused" };
      if (person !== undefined) await view.signIns.remove(machineKey);
      if (entrance.kind === "known") {
        if (person !== undefined)
          await note({ name: `user:${person.userId}`, remote }, "device.sign-in", device.id, { name: device.name });
        if (isRenewed && joinKey !== undefined) {
          await view.joinKeys.use(joinKey.id, machineKey, now);
          const by = { name: `device:${device.id}`, remote };
          await note(by, "device.renew", device.id, { name: device.name, key: joinKey.id });
        }
        // When it was last seen is written when it leaves: a network that comes back at once writes nothing.
        if (!sameDevice(this.find(device.id), device)) await put({ ...device, lastSeenAtMs: now });
        return { device };
      }
      if (person === undefined) await view.joinKeys.use(entrance.by.id, machineKey, now);
      await put(device, person === undefined ? entrance.by.id : undefined);
      const by = { name: `device:${device.id}`, remote };
      await note(by, "device.join", device.id, { name: device.name, role: device.role, key: entrance.by.id });
      return { device };
    });
  }

  /** True when the report says something new. */
  report(id: string, report: DeviceReport): Promise<boolean> {
    const said = JSON.stringify(report);
    const isNew = (device: Device | undefined): device is Device =>
      device !== undefined && isMember(device) && JSON.stringify(device.report) !== said;
    // Most reports repeat the last one: they cost no transaction.
    return this.#inTurn(async () => isNew(this.#devices.get(id))).then(
      (differs) =>
        differs &&
        this.change(async ({ put }) => {
          const device = this.#devices.get(id);
          if (!isNew(device)) return false;
          await put({ ...device, report });
          return true;
        }),
    );
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
    return this.amend(idOrName, by, "device.revoke", (device, now) => ({
      ...device,
      revokedAtMs: device.revokedAtMs ?? now,
    }));
  }

  remove(id: string, by: Actor): Promise<void> {
    return this.change(async ({ remove, note }) => {
      await remove(id);
      await note(by, "device.remove", id, { name: this.#devices.get(id)?.name });
    });
  }

  createKey(wanted: Wanted, by: Actor): Promise<{ info: KeyInfo; secret: string }> {
    return this.change(async ({ view, now, note }) => {
      const { random } = this.#parts;
      const keys = await view.joinKeys.all();
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
        preapproved: wanted.preapproved ?? (role === "exit-node" || !(await readSettings(view)).approvalRequired),
      };
      await view.joinKeys.forget(forgotten);
      await view.joinKeys.add(key);
      const { tags, ephemeral, preapproved } = key;
      await note(by, "key.create", key.id, { role, name, reusable, tags, ephemeral, preapproved });
      return { info: describeKey(key, now), secret };
    });
  }

  async keys(): Promise<KeyInfo[]> {
    const now = this.#parts.wall();
    return (await this.#parts.store.view.joinKeys.all()).map((key) => describeKey(key, now));
  }

  revokeKey(id: string, by: Actor): Promise<void> {
    return this.change(async ({ view, now, note }) => {
      if (!(await view.joinKeys.revoke(id, now)))
        throw new Failure("key-unknown", `no join key has the id "${id}"`, { advice: "exitnode key list" });
      await note(by, "key.revoke", id);
    });
  }

  /** Fulfilled when every change begun is in the store. */
  async settled(): Promise<void> {
    await this.#last;
  }

  /** Rows that say what memory says are our own changes, come back to us. */
  async #reread(view: StoreView, ids: readonly string[] | "all"): Promise<void> {
    const rows = ids === "all" ? await view.devices.all() : await view.devices.some(ids);
    const found = new Map(rows.map((device) => [device.id, device]));
    const changes: DeviceChange[] = [];
    for (const id of ids === "all" ? new Set([...this.#devices.keys(), ...found.keys()]) : ids) {
      const [before, after] = [this.#devices.get(id), found.get(id)];
      if (before === after || (before !== undefined && after !== undefined && sameDevice(before, after))) continue;
      if (after === undefined) this.#devices.delete(id);
      else this.#devices.set(id, after);
      changes.push({ before, after });
    }
    if (changes.length > 0) for (const watcher of this.#watchers) watcher(changes);
  }

  /** Two joins at once must not get one address. */
  #inTurn<T>(change: () => Promise<T>): Promise<T> {
    const result = this.#last.then(change);
    this.#last = result.catch(() => undefined);
    return result;
  }
}
