import * as z from "zod";
import { toHex } from "../kit/bytes.js";
import { tryJson } from "../kit/json.js";
import type { Key } from "../kit/key.js";
import { type Millis, SECOND } from "../kit/time.js";
import type { Clock } from "../sys/clock.js";
import type { Log } from "../sys/log.js";
import type { Postgres } from "../sys/postgres.js";
import type { Random } from "../sys/random.js";
import { key } from "../wire/schema.js";
import type { ChangeFeed } from "./changefeed.js";
import { CHANGE_CHANNEL } from "./store/sharing.js";
import type { Store, StoreView } from "./store/store.js";

/** A coordinator that has not renewed its lease for so long is gone, and with it its devices' connections. */
export const LEASE_MS: Millis = 3 * SECOND;
/** Each beat renews the lease and looks for changes, should a notification have been lost. */
const BEAT_MS: Millis = SECOND;
/** Words for other coordinators that wait for the database; further ones are dropped, as datagrams would be. */
export const WORDS_WAITING_MAX = 256;
/** Receipts of revocations that have come in and were not asked for yet. */
const RECEIPTS_MAX = 256;
/** Devices whose coming or going is written in one change. */
const PRESENCE_AT_ONCE_MAX = 1_000;
const PRUNE_EVERY_BEATS = 60;
const WORD_CHANNEL = "exitnode_word";
const LEASE_PREFIX = "coordinator:";

/** Said by one coordinator to the others: sealed probes on their way, and how far a revocation has got. */
const word = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("call"), to: z.string(), toDevice: z.string(), from: key, probe: z.string() }),
  z.object({
    kind: z.literal("told"),
    from: z.string(),
    deviceId: z.string(),
    peers: z.number(),
    confirmed: z.number(),
    tookMs: z.number(),
    devices: z.array(z.object({ name: z.string(), ms: z.number() })),
    silent: z.array(z.string()),
  }),
]);
type Word = z.infer<typeof word>;
export type Receipt = {
  readonly peers: number;
  readonly confirmed: number;
  readonly tookMs: Millis;
  readonly devices?: readonly { readonly name: string; readonly ms: Millis }[];
  readonly silent?: readonly string[];
};
/** Named in a word to the others, the slowest first: a word has room for 8000 bytes, a name takes up to 63. */
export const RECEIPT_NAMES_MAX = 25;

export type FellowsParts = {
  readonly store: Store;
  readonly feed: ChangeFeed;
  readonly postgres: Postgres;
  readonly clock: Clock;
  readonly random: Random;
  /** Reads the feed between the registry's own changes. */
  readonly catchUp: () => Promise<void>;
  readonly log?: Log;
};

export type FellowsEvents = {
  /** A device has come to another coordinator, or left it. */
  onPresence(deviceIds: readonly string[]): void;
  /** A probe for a device that is connected here. */
  onCall(deviceId: string, from: Key, probe: string): void;
  /** The devices that are connected here now. */
  connected(): Iterable<string>;
};

/** The other coordinators of the same store: which devices are connected to them, and how they are spoken to. */
export class Fellows {
  readonly #parts: FellowsParts;
  readonly #events: FellowsEvents;
  /** By what the others call this one: new at every start. */
  readonly #self: string;
  /** Of every device that is connected somewhere, by whose word. */
  readonly #holders = new Map<string, string>();
  readonly #live = new Set<string>();
  readonly #receipts = new Map<string, Map<string, Receipt>>();
  readonly #watchers = new Set<() => void>();
  readonly #over = new AbortController();
  #words = 0;
  #beats = 0;
  #beating: Promise<void> = Promise.resolve();
  #deafen: () => Promise<void> = async () => undefined;
  /** Of devices that came (true) or left since presence was last written: what came in a storm is one change. */
  readonly #unwritten = new Map<string, boolean>();
  #writing: Promise<void> | undefined;

  constructor(parts: FellowsParts, events: FellowsEvents) {
    this.#parts = parts;
    this.#events = events;
    this.#self = toHex(parts.random(8));
  }

  async open(): Promise<void> {
    const { store, feed, postgres, clock } = this.#parts;
    feed.on("presence", (view, ids) => this.#reread(view, ids));
    await store.change(({ leases }) => leases.take(`${LEASE_PREFIX}${this.#self}`, this.#self, LEASE_MS));
    await this.#reread(store.view, "all");
    await this.#meet();
    const wake = (): void => void this.#parts.catchUp().catch((error) => this.#failed(error));
    this.#deafen = postgres.listen({ [CHANGE_CHANNEL]: wake, [WORD_CHANNEL]: (said) => this.#hear(said) }, wake);
    this.#beating = this.#beat(clock);
  }

  /** How many others there are. */
  get count(): number {
    return this.#live.size;
  }

  /** Devices that are connected to others. */
  get online(): number {
    let online = 0;
    for (const id of this.#holders.keys()) if (this.has(id)) online++;
    return online;
  }

  /** Whether the device is connected to one of the others. */
  has(deviceId: string): boolean {
    const holder = this.#holders.get(deviceId);
    return holder !== undefined && this.#live.has(holder);
  }

  came(deviceId: string): void {
    this.#write([deviceId], true);
  }

  left(deviceId: string): void {
    this.#write([deviceId], false);
  }

  /** Hands a sealed probe to where the device is; false when it is nowhere else. */
  call(toDevice: string, from: Key, probe: string): boolean {
    const to = this.#holders.get(toDevice);
    if (to === undefined || !this.#live.has(to)) return false;
    return this.#say({ kind: "call", to, toDevice, from, probe });
  }

  /** Tells the others how many of our devices have confirmed that one was revoked. */
  tell(deviceId: string, { peers, confirmed, tookMs, devices = [], silent = [] }: Receipt): void {
    const named = { devices: devices.slice(0, RECEIPT_NAMES_MAX), silent: silent.slice(0, RECEIPT_NAMES_MAX) };
    this.#say({ kind: "told", from: this.#self, deviceId, peers, confirmed, tookMs, ...named });
  }

  /** What the others tell of a revocation, as far as they do within the time. */
  async receipts(deviceId: string, timeoutMs: Millis): Promise<{ receipts: Receipt[]; unheard: number }> {
    const { clock } = this.#parts;
    // Who holds no device has nobody to tell.
    const holders = new Set(this.#holders.values());
    const asked = [...this.#live].filter((holder) => holders.has(holder));
    const unheard = (): string[] => asked.filter((one) => this.#receipts.get(deviceId)?.has(one) !== true);
    const deadline = new AbortController();
    const all = new Promise<void>((resolve) => {
      const look = (): void => {
        // One that was killed a moment ago is not waited for in vain.
        if (unheard().every((one) => !this.#live.has(one))) resolve();
      };
      this.#watchers.add(look);
      deadline.signal.addEventListener("abort", () => this.#watchers.delete(look));
      look();
    });
    await Promise.race([all, clock.sleep(timeoutMs, deadline.signal).catch(() => undefined)]);
    deadline.abort();
    const told = { receipts: [...(this.#receipts.get(deviceId)?.values() ?? [])], unheard: unheard().length };
    this.#receipts.delete(deviceId);
    return told;
  }

  async close(): Promise<void> {
    this.#over.abort();
    await this.#deafen();
    await this.#beating;
    await this.#writing;
    await this.#parts.store
      .change(async ({ leases, presence }) => {
        await presence.removeAllOf(this.#self);
        await leases.end(`${LEASE_PREFIX}${this.#self}`, this.#self);
      })
      .catch((error: unknown) => this.#failed(error)); // then the lease runs out
  }

  async #beat(clock: Clock): Promise<void> {
    let well = true;
    while (!this.#over.signal.aborted) {
      await clock.sleep(BEAT_MS, this.#over.signal).catch(() => undefined);
      if (this.#over.signal.aborted) return;
      try {
        await this.#meet();
        this.#write([], true);
        if (this.#beats++ % PRUNE_EVERY_BEATS === 0) await this.#prune();
        await this.#parts.catchUp();
        if (!well) this.#parts.log?.info("the database is back");
        well = true;
      } catch (error) {
        if (well) this.#failed(error);
        well = false;
      }
    }
  }

  /** Renews the own lease, and learns who else has one. */
  async #meet(): Promise<void> {
    const { leases } = this.#parts.store.view;
    const name = `${LEASE_PREFIX}${this.#self}`;
    const wasThere = (await leases.list(name)).length > 0;
    await leases.take(name, this.#self, LEASE_MS);
    // Taken for dead meanwhile, with all its devices.
    if (!wasThere) this.#write(this.#events.connected(), true);
    const others = (await leases.list(LEASE_PREFIX)).filter(({ holder }) => holder !== this.#self);
    const before = new Set(this.#live);
    this.#live.clear();
    for (const { holder, over } of others) if (!over) this.#live.add(holder);
    const changed = [...this.#holders].filter(([, holder]) => before.has(holder) !== this.#live.has(holder));
    if (changed.length > 0) this.#events.onPresence(changed.map(([id]) => id));
    for (const look of [...this.#watchers]) look();
    for (const { holder, over } of others) if (over) await this.#bury(holder);
  }

  /** Forgets one whose lease has run out; it may have come back at this very moment. */
  async #bury(holder: string): Promise<void> {
    const { store, log } = this.#parts;
    const name = `${LEASE_PREFIX}${holder}`;
    await store.change(async ({ leases, presence }) => {
      const lease = (await leases.list(name)).find((one) => one.name === name);
      if (lease?.over !== true) return;
      await presence.removeAllOf(holder);
      await leases.end(name, holder);
      log?.warn("another coordinator is gone", { coordinator: holder });
    });
  }

  async #prune(): Promise<void> {
    const { store } = this.#parts;
    if (await store.view.leases.take("prune", this.#self, PRUNE_EVERY_BEATS * BEAT_MS))
      await store.view.changes.prune();
  }

  async #reread(view: StoreView, ids: readonly string[] | "all"): Promise<void> {
    const rows = ids === "all" ? await view.presence.all() : await view.presence.of(ids);
    const asked = ids === "all" ? [...this.#holders.keys(), ...rows.map((row) => row.device_id)] : ids;
    const found = new Map(rows.map(({ device_id, holder }) => [device_id, holder]));
    const changed: string[] = [];
    for (const id of new Set(asked)) {
      const [before, after] = [this.#holders.get(id), found.get(id)];
      if (before === after) continue;
      if (after === undefined) this.#holders.delete(id);
      else this.#holders.set(id, after);
      // One that has started since the last beat; were it dead, the next beat would say so.
      if (after !== undefined && after !== this.#self && ids !== "all") this.#live.add(after);
      if (before !== this.#self || after !== undefined) changed.push(id);
    }
    if (changed.length > 0) this.#events.onPresence(changed);
  }

  #write(deviceIds: Iterable<string>, here: boolean): void {
    if (this.#over.signal.aborted) return;
    for (const id of deviceIds) this.#unwritten.set(id, here);
    this.#writing ??= this.#writePresence().finally(() => {
      this.#writing = undefined;
    });
  }

  async #writePresence(): Promise<void> {
    while (this.#unwritten.size > 0) {
      const written = [...this.#unwritten].slice(0, PRESENCE_AT_ONCE_MAX);
      for (const [id] of written) this.#unwritten.delete(id);
      const ids = (here: boolean): string[] => written.flatMap(([id, is]) => (is === here ? [id] : []));
      try {
        await this.#parts.store.change(async ({ presence }) => {
          await presence.put(ids(true), this.#self);
          await presence.remove(ids(false), this.#self);
        });
      } catch (error) {
        // The next beat that finds the database tries again; what has changed since counts.
        for (const [id, here] of written) if (!this.#unwritten.has(id)) this.#unwritten.set(id, here);
        return this.#failed(error);
      }
    }
  }

  #say(said: Word): boolean {
    if (this.#words >= WORDS_WAITING_MAX) return false;
    this.#words++;
    this.#parts.postgres
      .notify(WORD_CHANNEL, JSON.stringify(said))
      .catch((error: unknown) => this.#failed(error))
      .finally(() => this.#words--);
    return true;
  }

  #hear(text: string): void {
    const said = word.safeParse(tryJson(text)).data;
    if (said?.kind === "call" && said.to === this.#self) this.#events.onCall(said.toDevice, said.from, said.probe);
    if (said?.kind !== "told" || said.from === this.#self) return;
    const { kind: _, from, deviceId, ...receipt } = said;
    const oldest = this.#receipts.keys().next().value;
    if (oldest !== undefined && this.#receipts.size >= RECEIPTS_MAX) this.#receipts.delete(oldest);
    const got = this.#receipts.get(deviceId) ?? new Map<string, Receipt>();
    this.#receipts.set(deviceId, got.set(from, receipt));
    for (const look of [...this.#watchers]) look();
  }

  #failed(error: unknown): void {
    this.#parts.log?.error("the store failed", { reason: error instanceof Error ? error.message : String(error) });
  }
}
