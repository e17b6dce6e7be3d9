import type { Store, StoreView } from "./store/store.js";

/** Devices whose coming or going is written in one change. */
const WRITTEN_AT_ONCE_MAX = 1_000;

/** Which of several coordinators each connected device is at: a copy of what the store says, and our own part of it. */
export class Presence {
  readonly #store: Store;
  readonly #self: string;
  readonly #failed: (error: unknown) => void;
  /** The coordinator of every device that is connected somewhere. */
  readonly #holders = new Map<string, string>();
  /** Of devices that came (true) or left since it was last written: what came in a storm is one change. */
  readonly #unwritten = new Map<string, boolean>();
  #writing: Promise<void> | undefined;
  #over = false;

  /** `self` is what the other coordinators call this one. */
  constructor(store: Store, self: string, failed: (error: unknown) => void) {
    this.#store = store;
    this.#self = self;
    this.#failed = failed;
  }

  /** Devices by id, each with its coordinator. */
  get holders(): ReadonlyMap<string, string> {
    return this.#holders;
  }

  /** Notes that these devices are connected here, or are no more; without any, tries again what failed. */
  write(deviceIds: Iterable<string>, here: boolean): void {
    if (this.#over) return;
    for (const id of deviceIds) this.#unwritten.set(id, here);
    this.#writing ??= this.#write().finally(() => {
      this.#writing = undefined;
    });
  }

  /** Reads rows that may have changed; returns the devices that came to another coordinator, or left it. */
  async reread(view: StoreView, ids: readonly string[] | "all"): Promise<string[]> {
    const rows = ids === "all" ? await view.presence.all() : await view.presence.of(ids);
    const asked = ids === "all" ? [...this.#holders.keys(), ...rows.map((row) => row.device_id)] : ids;
    const found = new Map(rows.map(({ device_id, holder }) => [device_id, holder]));
    const changed: string[] = [];
    for (const id of new Set(asked)) {
      const [before, after] = [this.#holders.get(id), found.get(id)];
      if (before === after) continue;
      if (after === undefined) this.#holders.delete(id);
      else this.#holders.set(id, after);
      if (before !== this.#self || after !== undefined) changed.push(id);
    }
    return changed;
  }

  /** Fulfilled when nothing is being written, and nothing will be. */
  close(): Promise<void> {
    this.#over = true;
    return this.#writing ?? Promise.resolve();
  }

  async #write(): Promise<void> {
    while (this.#unwritten.size > 0) {
      const written = [...this.#unwritten].slice(0, WRITTEN_AT_ONCE_MAX);
      for (const [id] of written) this.#unwritten.delete(id);
      const ids = (here: boolean): string[] => written.flatMap(([id, is]) => (is === here ? [id] : []));
      try {
        await this.#store.change(async ({ presence }) => {
          await presence.put(ids(true), this.#self);
          await presence.remove(ids(false), this.#self);
        });
      } catch (error) {
        // What has changed since counts.
        for (const [id, here] of written) if (!this.#unwritten.has(id)) this.#unwritten.set(id, here);
        return this.#failed(error);
      }
    }
  }
}
