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
import { Presence } from "./presence.js";
import { type Receipt, Receipts } from "./receipts.js";
import { CHANGE_CHANNEL } from "./store/sharing.js";
import type { Store, StoreView } from "./store/store.js";

/** A coordinator that has not renewed its lease for so long is gone, and with it its devices' connections. */
export const LEASE_MS: Millis = 3 * SECOND;
/** Each beat renews the lease and looks for changes, should a notification have been lost. */
const BEAT_MS: Millis = SECOND;
/** Words for other coordinators that wait for the database; further ones are dropped, as datagrams would be. */
export const WORDS_WAITING_MAX = 256;
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
/** Named in a word to the others, the slowest first: a word has room for 8000 bytes, a name takes up to 63. */
export const RECEIPT_NAMES_MAX = 25;

export type OtherCoordinatorsParts = {
  readonly store: Store;
  readonly feed: ChangeFeed;
  readonly postgres: Postgres;
  readonly clock: Clock;
  readonly random: Random;
  /** Reads the feed between the registry's own changes. */
  readonly catchUp: () => Promise<void>;
  readonly log?: Log;
};

export type OtherCoordinatorsEvents = {
  /** Devices have come to another coordinator, or left it. */
  onPresence(deviceIds: readonly string[]): void;
  /** A probe for a device that is connected here. */
  onCall(deviceId: string, from: Key, probe: string): void;
  /** The devices that are connected here now. */
  connected(): Iterable<string>;
};

/**
 * The other coordinators of the same store: which of them live, by leases that each renews; which devices are with
 * them; and what one says to another, which goes through the database too and may be lost.
 */
export class OtherCoordinators {
  readonly #parts: OtherCoordinatorsParts;
  readonly #events: OtherCoordinatorsEvents;
  /** By what the others call this one: new at every start. */
  readonly #self: string;
  readonly #live = new Set<string>();
  readonly #presence: Presence;
  readonly #receipts: Receipts;
  readonly #over = new AbortController();
  #words = 0;
  #beats = 0;
  #beating: Promise<void> = Promise.resolve();
  #deafen: () => Promise<void> = async () => undefined;

  constructor(parts: OtherCoordinatorsParts, events: OtherCoordinatorsEvents) {
    this.#parts = parts;
    this.#events = events;
    this.#self = toHex(parts.random(8));
    this.#presence = new Presence(parts.store, this.#self, (error) => this.#failed(error));
    this.#receipts = new Receipts(parts.clock);
  }

  async open(): Promise<void> {
    const { store, feed, postgres } = this.#parts;
    feed.on("presence", (view, ids) => this.#reread(view, ids));
    await store.change(({ leases }) => leases.take(`${LEASE_PREFIX}${this.#self}`, this.#self, LEASE_MS));
    await this.#reread(store.view, "all");
    await this.#meet();
    const wake = (): void => void this.#parts.catchUp().catch((error) => this.#failed(error));
    this.#deafen = postgres.listen({ [CHANGE_CHANNEL]: wake, [WORD_CHANNEL]: (said) => this.#hear(said) }, wake);
    this.#beating = this.#beat();
  }

  /** How many there are. */
  get count(): number {
    return this.#live.size;
  }

  /** Devices that are connected to them. */
  get online(): number {
    let online = 0;
    for (const holder of this.#presence.holders.values()) if (this.#live.has(holder)) online++;
    return online;
  }

  /** Whether the device is connected to one of them. */
  has(deviceId: string): boolean {
    return this.#holderOf(deviceId) !== undefined;
  }

  /** Tells them that the device is connected here. */
  came(deviceId: string): void {
    this.#presence.write([deviceId], true);
  }

  left(deviceId: string): void {
    this.#presence.write([deviceId], false);
  }

  /** Hands a sealed probe to where the device is; false when it is with none of them. */
  call(toDevice: string, from: Key, probe: string): boolean {
    const to = this.#holderOf(toDevice);
    return to !== undefined && this.#say({ kind: "call", to, toDevice, from, probe });
  }

  /** Tells them how many of our devices have confirmed that one was revoked. */
  tell(deviceId: string, { peers, confirmed, tookMs, devices, silent }: Receipt): void {
    const named = { devices: devices.slice(0, RECEIPT_NAMES_MAX), silent: silent.slice(0, RECEIPT_NAMES_MAX) };
    this.#say({ kind: "told", from: this.#self, deviceId, peers, confirmed, tookMs, ...named });
  }

  /** What they tell of a revocation, as far as they do within the time. */
  receipts(deviceId: string, timeoutMs: Millis): Promise<{ receipts: Receipt[]; unheard: number }> {
    // Who holds no device has nobody to tell.
    const holders = new Set(this.#presence.holders.values());
    const asked = [...this.#live].filter((holder) => holders.has(holder));
    return this.#receipts.of(deviceId, asked, (holder) => this.#live.has(holder), timeoutMs);
  }

  async close(): Promise<void> {
    this.#over.abort();
    await this.#presence.close();
    await this.#deafen();
    await this.#beating;
    await this.#parts.store
      .change(async ({ leases, presence }) => {
        await presence.removeAllOf(this.#self);
        await leases.end(`${LEASE_PREFIX}${this.#self}`, this.#self);
      })
      .catch((error: unknown) => this.#failed(error)); // then the lease runs out
  }

  /** Where the device is, when that is a coordinator that lives. */
  #holderOf(deviceId: string): string | undefined {
    const holder = this.#presence.holders.get(deviceId);
    return holder !== undefined && this.#live.has(holder) ? holder : undefined;
  }

  async #beat(): Promise<void> {
    const { clock, log } = this.#parts;
    let well = true;
    while (!this.#over.signal.aborted) {
      await clock.sleep(BEAT_MS, this.#over.signal).catch(() => undefined);
      if (this.#over.signal.aborted) return;
      try {
        await this.#meet();
        this.#presence.write([], true);
        if (this.#beats++ % PRUNE_EVERY_BEATS === 0) await this.#prune();
        await this.#parts.catchUp();
        if (!well) log?.info("the database is back");
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
    if (!wasThere) this.#presence.write(this.#events.connected(), true);
    const others = (await leases.list(LEASE_PREFIX)).filter(({ holder }) => holder !== this.#self);
    const before = new Set(this.#live);
    this.#live.clear();
    for (const { holder, over } of others) if (!over) this.#live.add(holder);
    const changed = [...this.#presence.holders].filter(([, one]) => before.has(one) !== this.#live.has(one));
    if (changed.length > 0) this.#events.onPresence(changed.map(([id]) => id));
    this.#receipts.look();
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
    const changed = await this.#presence.reread(view, ids);
    // A holder that has started since the last beat; were it dead, the next beat would say so.
    for (const id of ids === "all" ? [] : changed) {
      const holder = this.#presence.holders.get(id);
      if (holder !== undefined && holder !== this.#self) this.#live.add(holder);
    }
    if (changed.length > 0) this.#events.onPresence(changed);
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
    this.#receipts.put(deviceId, from, receipt);
  }

  #failed(error: unknown): void {
    this.#parts.log?.error("the store failed", { reason: error instanceof Error ? error.message : String(error) });
  }
}
