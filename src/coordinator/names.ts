import { Failure } from "../kit/failure.js";
import type { Ip } from "../kit/ip.js";
import type { Millis } from "../kit/time.js";
import { type MapNames, mapNames, NAMES_DOMAIN_DEFAULT, RECORDS_MAX, SPLIT_MAX } from "../wire/names.js";
import type { Actor } from "./actor.js";
import { Newest } from "./newest.js";
import type { Store, StoreView } from "./store/store.js";

export type NamesParts = { readonly store: Store; readonly wall: () => Millis };

/** The setting's name in the store. */
const NAMES = "names";
const AT_FIRST: MapNames = { domain: NAMES_DOMAIN_DEFAULT, records: [], split: [], resolvers: [] };

/** What devices are told of names beyond their own: the domain, extra records, resolvers. */
export class Names {
  readonly #parts: NamesParts;
  #map: MapNames;
  readonly #newest = new Newest();

  private constructor(parts: NamesParts, map: MapNames) {
    this.#parts = parts;
    this.#map = map;
  }

  static async open(parts: NamesParts): Promise<Names> {
    return new Names(parts, await kept(parts.store.view));
  }

  /** The same value until it changes. */
  get map(): MapNames {
    return this.#map;
  }

  /** Another coordinator of the same store may have changed them: true when it has. */
  async reread(view: StoreView): Promise<boolean> {
    const now = await this.#newest.read(() => kept(view));
    if (now === undefined || JSON.stringify(now) === JSON.stringify(this.#map)) return false;
    this.#map = now;
    return true;
  }

  /** What is left out stays. */
  set(
    wanted: { readonly domain?: string | undefined; readonly resolvers?: Ip[] | undefined },
    by: Actor,
  ): Promise<MapNames> {
    return this.#change(by, "names.set", wanted.domain ?? "", (now) => ({
      ...now,
      domain: wanted.domain ?? now.domain,
      resolvers: wanted.resolvers ?? now.resolvers,
    }));
  }

  setRecord(name: string, addresses: Ip[], by: Actor): Promise<MapNames> {
    return this.#change(by, "names.add", name, (now) => {
      const others = now.records.filter((record) => record.name !== name);
      if (others.length >= RECORDS_MAX) throw full(`${RECORDS_MAX} records`);
      return { ...now, records: sorted([...others, { name, addresses }], (record) => record.name) };
    });
  }

  setSplit(domain: string, resolvers: Ip[], by: Actor): Promise<MapNames> {
    return this.#change(by, "names.add", domain, (now) => {
      const others = now.split.filter((one) => one.domain !== domain);
      if (others.length >= SPLIT_MAX) throw full(`${SPLIT_MAX} domains with resolvers of their own`);
      return { ...now, split: sorted([...others, { domain, resolvers }], (one) => one.domain) };
    });
  }

  removeRecord(name: string, by: Actor): Promise<MapNames> {
    return this.#change(by, "names.remove", name, (now) => {
      const records = now.records.filter((record) => record.name !== name);
      if (records.length === now.records.length) throw unknown(name);
      return { ...now, records };
    });
  }

  removeSplit(domain: string, by: Actor): Promise<MapNames> {
    return this.#change(by, "names.remove", domain, (now) => {
      const split = now.split.filter((one) => one.domain !== domain);
      if (split.length === now.split.length) throw unknown(domain);
      return { ...now, split };
    });
  }

  /** From what the store holds at that moment; the same as before changes nothing and is not noted. */
  async #change(by: Actor, action: string, target: string, change: (now: MapNames) => MapNames): Promise<MapNames> {
    const { store, wall } = this.#parts;
    await store.change(async (view) => {
      const before = await kept(view);
      const after = change(before);
      if (JSON.stringify(after) === JSON.stringify(before)) return;
      await view.settings.set(NAMES, JSON.stringify(after));
      await view.audit.append({ at: wall(), by, action, target });
    });
    // Read, and not remembered: somebody else's change may have come after ours.
    await this.reread(store.view);
    return this.#map;
  }
}

const kept = async ({ settings }: Pick<StoreView, "settings">): Promise<MapNames> =>
  (await settings.getJson(NAMES, mapNames)) ?? AT_FIRST;

/** By name: what was written in another order is the same. */
const sorted = <T>(all: readonly T[], nameOf: (one: T) => string): T[] =>
  [...all].sort((left, right) => (nameOf(left) < nameOf(right) ? -1 : 1));

const full = (what: string): Failure =>
  new Failure("names-full", `the network's names hold ${what} already`, {
    advice: "exitnode names show, then: exitnode names remove <name>",
  });
const unknown = (name: string): Failure =>
  new Failure("name-unknown", `the network's names hold no "${name}"`, { advice: "exitnode names show" });
