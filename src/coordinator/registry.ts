import { toHex } from "../kit/bytes.js";
import { Failure } from "../kit/failure.js";
import type { Cidr } from "../kit/ip.js";
import type { Key } from "../kit/key.js";
import type { Millis } from "../kit/time.js";
import type { Clock } from "../sys/clock.js";
import type { Random } from "../sys/random.js";
import type { KeyInfo, NetworkSettings } from "../wire/adminapi.js";
import type { DeviceReport } from "../wire/control.js";
import { PEERS_MAX } from "../wire/map.js";
import type { Role } from "../wire/schema.js";
import type { Actor } from "./actor.js";
import type { ChangeFeed } from "./changefeed.js";
import { CommitQueue } from "./commitqueue.js";
import { type Device, isMember } from "./device.js";
import type { Hello, Network } from "./entrance.js";
import { type Greeted, greeting } from "./greeting.js";
import {
  describeKey,
  forgettableKeys,
  hashSecret,
  KEYS_MAX,
  SECRET_BYTES,
  type StoredKey,
  secretText,
} from "./joinkeys.js";
import { readSettings } from "./networksettings.js";
import { Roster } from "./roster.js";
import type { AuditEvent } from "./store/audit.js";
import { sameDevice } from "./store/devices.js";
import type { Store, StoreView } from "./store/store.js";
import type { Turn } from "./turn.js";

/** A device's own entry is not among its peers, hence one more. */
export const DEVICES_MAX = PEERS_MAX + 1;

export type RegistryParts = {
  readonly store: Store;
  /** Where the store is shared: what other coordinators change. */
  readonly feed?: ChangeFeed;
  readonly range: Cidr;
  /** Names of devices that the policy goes by: administrators give them. */
  readonly isReserved?: (name: string) => boolean;
  readonly random: Random;
  readonly clock: Clock;
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

/** The devices as they are read. */
export type DevicesNow = ReadonlyMap<string, Device> &
  Pick<Roster, "version" | "changedSince" | "byMachineKey" | "memberByPublicKey">;

/** A device as it was and as it is now; undefined: not there. */
export type DeviceChange = { readonly before: Device | undefined; readonly after: Device | undefined };

/** What was decided, and does not last yet. */
type Draft = { readonly devices: Map<string, Device | undefined>; readonly notes: AuditEvent[] };
const newDraft = (): Draft => ({ devices: new Map(), notes: [] });

/** The devices and keys: in memory to be read, in the store to last; changes happen one after the other. */
export class Registry {
  readonly #parts: RegistryParts;
  /** What lasts. */
  readonly #devices = new Roster();
  /** The same, with what the transaction under way has decided so far: two joins at once must not get one address. */
  readonly #next = new Roster();
  readonly #queue: CommitQueue<Turn>;
  readonly #watchers = new Set<(changes: readonly DeviceChange[]) => void>();

  private constructor(parts: RegistryParts) {
    this.#parts = parts;
    this.#queue = new CommitQueue(parts.clock, (decisions) => this.#commit(decisions));
  }

  static async open(parts: RegistryParts): Promise<Registry> {
    const registry = new Registry(parts);
    parts.feed?.on("device", (view, ids) => registry.#reread(view, ids));
    for (const device of await parts.store.view.devices.all()) registry.#hold(device.id, device);
    return registry;
  }

  /** Revoked ones too, in the order they joined. */
  get devices(): DevicesNow {
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
    return this.#queue.alone(async () => {
      const { store, feed } = this.#parts;
      const draft = newDraft();
      const result = await store.change(async (view) => {
        await feed?.catchUp(view);
        const result = await decide(this.#turn(view, draft, () => readSettings(view)));
        await view.audit.append(...draft.notes);
        return result;
      });
      for (const [id, device] of draft.devices) this.#hold(id, device);
      return result;
    });
  }

  /** Changes in one transaction, in which each of them lasts or fails by itself. */
  async #commit(decisions: readonly ((turn: Turn) => Promise<unknown>)[]): Promise<PromiseSettledResult<unknown>[]> {
    const { store, feed } = this.#parts;
    const decided = newDraft();
    let settings: Promise<NetworkSettings> | undefined;
    const works = decisions.map((decide) => async (view: StoreView) => {
      const draft = newDraft();
      const result = await decide(this.#turn(view, draft, () => (settings ??= readSettings(view))));
      decided.notes.push(...draft.notes);
      for (const [id, device] of draft.devices) {
        this.#next.put(id, device);
        decided.devices.set(id, device);
      }
      return result;
    });
    try {
      const results = await store.changeEach(works, {
        begin: async (view) => feed?.catchUp(view),
        end: (view) => view.audit.append(...decided.notes),
      });
      for (const [id, device] of decided.devices) this.#devices.put(id, device);
      return results;
    } catch (error) {
      for (const id of decided.devices.keys()) this.#next.put(id, this.#devices.get(id));
      throw error;
    }
  }

  /** What a decision has to work with; `draft` is what it decides. */
  #turn(view: StoreView, { devices, notes }: Draft, settings: Turn["settings"]): Turn {
    const now = this.#parts.clock.wall();
    return {
      view,
      now,
      settings,
      put: async (device, joinKeyId) => {
        const before = devices.get(device.id) ?? this.#next.get(device.id);
        if (before === undefined) await view.devices.add(device, joinKeyId ?? null);
        else await view.devices.update(before, device);
        devices.set(device.id, device);
      },
      hold: (device) => void devices.set(device.id, device),
      remove: async (id) => {
        await view.devices.remove(id);
        devices.set(id, undefined);
      },
      note: (by, action, target, details = {}) => void notes.push({ at: now, by, action, target, details }),
    };
  }

  #hold(id: string, device: Device | undefined): void {
    this.#devices.put(id, device);
    this.#next.put(id, device);
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
      note(by, action, device.id, { name: device.name });
      return device;
    });
  }

  /** Hears at once what other coordinators have changed. */
  catchUp(): Promise<void> {
    return this.#queue.alone(async () => this.#parts.feed?.catchUp());
  }

  /** `userId` has signed in for this machine. */
  hello(machineKey: Key, hello: Hello, remote: string, userId?: string): Promise<Greeted> {
    const { network } = this;
    const { random, clock } = this.#parts;
    return this.#queue.together(
      greeting({ network, random, wall: () => clock.wall() }, { machineKey, hello, remote, userId }),
    );
  }

  /** What a newcomer is compared with, by what has been decided so far. */
  get network(): Network {
    const { range, store, isReserved } = this.#parts;
    return { devices: this.#next, range, ula: store.ula, devicesMax: DEVICES_MAX, isReserved };
  }

  /** True when the report says something new. */
  report(id: string, report: DeviceReport): Promise<boolean> {
    const said = JSON.stringify(report);
    const changed = (): Device | undefined => {
      const device = this.#next.get(id);
      return device !== undefined && isMember(device) && JSON.stringify(device.report) !== said ? device : undefined;
    };
    return this.#queue.together({
      // Most reports repeat the last one: they cost no transaction.
      look: () => (changed() === undefined ? false : undefined),
      decide: async ({ view, now, put, hold }) => {
        const device = changed();
        if (device === undefined) return false;
        await put({ ...device, report });
        // Of an app nobody else can tell.
        for (const { id: appId, atMs } of report.apps ?? []) {
          const app = this.#next.get(appId);
          if (app?.app?.exitId !== id) continue;
          // The exit node's clock may be behind, and a kernel says the second in which it began.
          const lastSeenAtMs = Math.max(app.createdAtMs, Math.min(atMs, now));
          if (lastSeenAtMs <= (app.lastSeenAtMs ?? -Infinity)) continue;
          await view.devices.seen(appId, lastSeenAtMs);
          hold({ ...app, lastSeenAtMs });
        }
        return true;
      },
    });
  }

  /** Notes that the device was there until now. */
  seen(id: string): Promise<void> {
    return this.#queue.together({
      decide: async ({ view, now, hold }) => {
        const device = this.#next.get(id);
        if (device === undefined) return;
        await view.devices.seen(id, now);
        hold({ ...device, lastSeenAtMs: now });
      },
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
      note(by, "device.remove", id, { name: this.#devices.get(id)?.name });
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
      const owner = key.userId === undefined ? {} : { user: key.userId };
      note(by, "key.create", key.id, { role, name, reusable, tags, ephemeral, preapproved, ...owner });
      return { info: describeKey(key, now), secret };
    });
  }

  async keys(): Promise<KeyInfo[]> {
    const now = this.#parts.clock.wall();
    return (await this.#parts.store.view.joinKeys.all()).map((key) => describeKey(key, now));
  }

  revokeKey(id: string, by: Actor): Promise<void> {
    return this.change(async ({ view, now, note }) => {
      if (!(await view.joinKeys.revoke(id, now)))
        throw new Failure("key-unknown", `no join key has the id "${id}"`, { advice: "exitnode key list" });
      note(by, "key.revoke", id);
    });
  }

  /** Fulfilled when every change begun is in the store. */
  settled(): Promise<void> {
    return this.#queue.alone(async () => undefined);
  }

  /** Rows that say what memory says are our own changes, come back to us. */
  async #reread(view: StoreView, ids: readonly string[] | "all"): Promise<void> {
    const rows = ids === "all" ? await view.devices.all() : await view.devices.some(ids);
    const found = new Map(rows.map((device) => [device.id, device]));
    const changes: DeviceChange[] = [];
    for (const id of ids === "all" ? new Set([...this.#devices.keys(), ...found.keys()]) : ids) {
      const [before, after] = [this.#devices.get(id), found.get(id)];
      if (before === after || (before !== undefined && after !== undefined && sameDevice(before, after))) continue;
      this.#hold(id, after);
      changes.push({ before, after });
    }
    if (changes.length > 0) for (const watcher of this.#watchers) watcher(changes);
  }
}
