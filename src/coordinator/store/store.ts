import { type Dialect, Kysely, PostgresDialect, sql } from "kysely";
import type { Cidr } from "../../kit/ip.js";
import type { Millis } from "../../kit/time.js";
import { cidr, parseWith } from "../../wire/schema.js";
import { AuditTable } from "./audit.js";
import { ChangeTable } from "./changes.js";
import { DeliveryTable } from "./deliveries.js";
import { DeviceTable } from "./devices.js";
import { InviteTable } from "./invites.js";
import { JoinKeyTable } from "./joinkeys.js";
import { LeaseTable } from "./leases.js";
import { migrate } from "./migrate.js";
import { MIGRATIONS, type Migration } from "./migrations.js";
import { PasskeyTable } from "./passkeys.js";
import { PolicyTable } from "./policies.js";
import { PresenceTable } from "./presence.js";
import { ReplayTable } from "./replays.js";
import type { Tables } from "./schema.js";
import { SessionTable } from "./sessions.js";
import { SettingTable } from "./settings.js";
import { lockWriters, shareTables } from "./sharing.js";
import { SignInTable } from "./signins.js";
import { TokenTable } from "./tokens.js";
import { UserTable } from "./users.js";
import { WebhookTable } from "./webhooks.js";

/** The tables as one transaction, or a reader outside of any, sees them. */
export type StoreView = {
  readonly devices: DeviceTable;
  readonly joinKeys: JoinKeyTable;
  readonly settings: SettingTable;
  readonly audit: AuditTable;
  readonly changes: ChangeTable;
  readonly leases: LeaseTable;
  readonly presence: PresenceTable;
  readonly policies: PolicyTable;
  readonly users: UserTable;
  readonly passkeys: PasskeyTable;
  readonly sessions: SessionTable;
  readonly invites: InviteTable;
  readonly signIns: SignInTable;
  readonly tokens: TokenTable;
  readonly webhooks: WebhookTable;
  readonly deliveries: DeliveryTable;
  readonly replays: ReplayTable;
};

const HOUR_MS = 3_600_000;

/** What the coordinator remembers. It speaks SQL and decides nothing. */
export class Store {
  readonly #db: Kysely<Tables>;
  /** Outside of any transaction: for reading. */
  readonly view: StoreView;
  /** Several coordinators may use it at once. */
  readonly shared: boolean;
  /** Grows with every opening: numbers made from it grow across restarts, whatever the clock does. */
  readonly epoch: number;
  /** The network's IPv6 prefix, made when the store was. */
  readonly ula: Cidr;

  private constructor(db: Kysely<Tables>, shared: boolean, epoch: number, ula: Cidr) {
    this.#db = db;
    this.shared = shared;
    this.view = viewOf(db, shared);
    this.epoch = epoch;
    this.ula = ula;
  }

  /** Brings the tables up to date; `ula` is taken when the store is new. */
  static async open(
    dialect: Dialect,
    ula: Cidr,
    migrations: readonly Migration[] = MIGRATIONS,
    now: Millis = 0,
  ): Promise<Store> {
    const db = new Kysely<Tables>({ dialect });
    const shared = dialect instanceof PostgresDialect;
    try {
      await migrate(db, migrations, shared ? lockWriters : undefined);
      return await db.transaction().execute(async (within) => {
        if (shared) {
          await lockWriters(within);
          await shareTables(within);
        }
        const settings = new SettingTable(within);
        const kept = await settings.getOrSet("ula", ula);
        const epoch = epochAfter(Number((await settings.get(EPOCH)) ?? 0), now);
        await settings.set(EPOCH, String(epoch));
        return new Store(db, shared, epoch, parseWith(cidr, kept, "the store's IPv6 prefix", "store-unusable"));
      });
    } catch (error) {
      await db.destroy();
      throw error;
    }
  }

  /**
   * One transaction: everything in `work` lasts, or nothing of it. Changes happen one after the other, also those of
   * other coordinators. Reading `store.view` inside waits for its own end: read the view that is handed in.
   */
  change<T>(work: (view: StoreView) => Promise<T>): Promise<T> {
    return this.#db.transaction().execute(async (within) => {
      if (this.shared) await lockWriters(within);
      return work(viewOf(within, this.shared));
    });
  }

  /** Several changes in one transaction, between `begin` and `end`: each lasts or fails by itself. Rejected: none lasts. */
  changeEach<T>(
    works: readonly ((view: StoreView) => Promise<T>)[],
    { begin, end }: { begin?: (view: StoreView) => Promise<void>; end?: (view: StoreView) => Promise<void> } = {},
  ): Promise<PromiseSettledResult<T>[]> {
    return this.#db.transaction().execute(async (within) => {
      if (this.shared) await lockWriters(within);
      const view = viewOf(within, this.shared);
      await begin?.(view);
      const results: PromiseSettledResult<T>[] = [];
      for (const work of works) {
        await sql`savepoint one`.execute(within);
        const [result] = await Promise.allSettled([work(view)]);
        // When this fails, as after an error that ended the transaction, so do all.
        if (result.status === "rejected") await sql`rollback to savepoint one`.execute(within);
        await sql`release savepoint one`.execute(within);
        results.push(result);
      }
      await end?.(view);
      return results;
    });
  }

  async close(): Promise<void> {
    await this.#db.destroy();
  }
}

/** The setting with the store's last epoch. */
export const EPOCH = "epoch";

/**
 * Above the last one, and above the hours since 1970: a store that an older copy of its file replaced goes on above
 * the numbers that devices have seen. An epoch is the upper part of numbers that stay exact: below 2²¹, the year 2209.
 */
export const epochAfter = (last: number, now: Millis): number => Math.max(last + 1, Math.floor(now / HOUR_MS));

const viewOf = (db: Kysely<Tables>, shared: boolean): StoreView => ({
  devices: new DeviceTable(db),
  joinKeys: new JoinKeyTable(db),
  settings: new SettingTable(db),
  audit: new AuditTable(db),
  changes: new ChangeTable(db),
  leases: new LeaseTable(db, shared),
  presence: new PresenceTable(db),
  policies: new PolicyTable(db),
  users: new UserTable(db),
  passkeys: new PasskeyTable(db),
  sessions: new SessionTable(db),
  invites: new InviteTable(db),
  signIns: new SignInTable(db),
  tokens: new TokenTable(db),
  webhooks: new WebhookTable(db),
  deliveries: new DeliveryTable(db),
  replays: new ReplayTable(db),
});
