import { Failure } from "../kit/failure.js";
import type { DeviceLockRequest, SignatureEntry } from "../wire/adminapi.js";
import {
  type DeviceLock,
  endorsementOf,
  endsLock,
  fingerprintOf,
  follows,
  LOCK_RECORDS_MAX,
  LOCKS_ENDED_MAX,
  type MapLock,
  mapLock,
  readRecord,
  type Trust,
} from "../wire/lock.js";
import type { Actor } from "./actor.js";
import type { Device } from "./device.js";
import type { Registry } from "./registry.js";
import type { Store, StoreView } from "./store/store.js";
import type { Turn } from "./turn.js";

export type DeviceLocksParts = {
  readonly store: Store;
  readonly registry: Registry;
  /** Tells whom it concerns: of one device, or that the lock itself is another. */
  readonly changed: (deviceId?: string) => void;
};

/** The setting's name in the store. */
const LOCK = "device-lock";
const NONE: MapLock = { records: [] };

/**
 * The device lock as the coordinator has it: it keeps and tells what devices have signed, and checks it so that nobody
 * is told what they would refuse. It has no key that counts in it.
 */
export class DeviceLocks {
  readonly #parts: DeviceLocksParts;
  #lock: MapLock;
  #trust: Trust | undefined;

  private constructor(parts: DeviceLocksParts, lock: MapLock) {
    this.#parts = parts;
    this.#lock = lock;
    this.#trust = trustIn(lock);
  }

  static async open(parts: DeviceLocksParts): Promise<DeviceLocks> {
    return new DeviceLocks(parts, await kept(parts.store.view));
  }

  get lock(): MapLock {
    return this.#lock;
  }

  /** What devices are told, the same value until it changes; undefined: there has never been a lock. */
  get map(): MapLock | undefined {
    return this.#lock === NONE ? undefined : this.#lock;
  }

  /** Whether its peers do without the device, for no trusted one has signed for it. */
  lacks({ lock }: Device): boolean {
    return this.#trust !== undefined && (lock === undefined || !isIn(this.#trust, lock));
  }

  /** Another coordinator of the same store may have changed it: true when it has. */
  async reread(view: StoreView): Promise<boolean> {
    const before = this.#lock;
    this.#take(await kept(view));
    return this.#lock !== before;
  }

  /** A record that replaces the one in force or, without a lock, begins one; and signatures that are to hold with it. */
  async advance({ record, signatures = [] }: DeviceLockRequest, by: Actor): Promise<MapLock> {
    const { registry, changed } = this.#parts;
    const trust = readRecord(record);
    if (trust === undefined) throw new Failure("lock-invalid", "the record is none that its signer has signed");
    const after = await registry.change(async (turn) => {
      const before = await kept(turn.view);
      if (before.records.includes(record)) return before;
      const current = trustIn(before);
      if (current !== undefined && !follows(current, trust)) throw stale(current);
      const next: MapLock = { ...before, records: [...before.records, record].slice(-LOCK_RECORDS_MAX) };
      await turn.view.settings.set(LOCK, JSON.stringify(next));
      await this.#sign(turn, trust, signatures, by);
      const { version, keys } = trust;
      const details = { version, trusted: keys.map(fingerprintOf), by: fingerprintOf(trust.by) };
      turn.note(by, current === undefined ? "lock.enable" : "lock.change", trust.lock, details);
      return next;
    });
    if (this.#take(after)) changed();
    return this.#lock;
  }

  /** Signatures of trusted devices for others. */
  async sign(signatures: readonly SignatureEntry[], by: Actor): Promise<void> {
    const { registry, changed } = this.#parts;
    await registry.change(async (turn) => {
      const trust = trustIn(await kept(turn.view));
      if (trust === undefined) throw off();
      await this.#sign(turn, trust, signatures, by);
    });
    for (const { device } of signatures) changed(registry.find(device).id);
  }

  /** Ends the lock; every device checks the secret for itself. */
  async end(secret: string, by: Actor): Promise<void> {
    const after = await this.#parts.registry.change(async ({ view, note }) => {
      const before = await kept(view);
      const trust = trustIn(before);
      if (trust === undefined) throw off();
      if (!endsLock(trust, secret))
        throw new Failure("lock-secret-refused", "this is not the secret that `exitnode lock enable` has shown", {
          advice: "without it, on every device by itself: exitnode lock forget",
        });
      const ended = [...(before.ended ?? []), { lock: trust.lock, secret }].slice(-LOCKS_ENDED_MAX);
      const next: MapLock = { records: [], ended };
      await view.settings.set(LOCK, JSON.stringify(next));
      note(by, "lock.disable", trust.lock, { version: trust.version });
      return next;
    });
    if (this.#take(after)) this.#parts.changed();
  }

  async #sign({ put, note }: Turn, trust: Trust, signatures: readonly SignatureEntry[], by: Actor): Promise<void> {
    for (const { device: idOrName, signature } of signatures) {
      const device = this.#parts.registry.find(idOrName);
      const { lock, name } = device;
      if (lock === undefined)
        throw new Failure("lock-key-unknown", `${name} has no lock key: its agent is an older one`, {
          advice: `bring it up to date and start it once, then: exitnode lock sign ${name}`,
        });
      if (!isIn(trust, { ...lock, signature }))
        throw new Failure("lock-signature-refused", `no trusted device has signed the lock key of ${name} like that`, {
          advice: "exitnode lock status",
        });
      if (lock.signature === signature) continue;
      await put({ ...device, lock: { ...lock, signature } });
      note(by, "device.lock-sign", device.id, { name, fingerprint: fingerprintOf(lock.key) });
    }
  }

  #take(now: MapLock): boolean {
    if (JSON.stringify(now) === JSON.stringify(this.#lock)) return false;
    this.#lock = now;
    this.#trust = trustIn(now);
    return true;
  }
}

const kept = async ({ settings }: Pick<StoreView, "settings">): Promise<MapLock> =>
  (await settings.getJson(LOCK, mapLock)) ?? NONE;

const trustIn = ({ records }: MapLock): Trust | undefined => readRecord(records.at(-1) ?? "");

const isIn = (trust: Trust, lock: DeviceLock): boolean => ["trusted", "signed"].includes(endorsementOf(trust, lock));

const stale = ({ version }: Trust): Failure =>
  new Failure("lock-changed", `the record does not follow on version ${version}, which is in force`, {
    advice: "exitnode lock status",
  });

const off = (): Failure =>
  new Failure("lock-off", "this network has no device lock", { advice: "exitnode lock enable    (on a device)" });
