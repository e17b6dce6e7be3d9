import { type Dialect, Kysely } from "kysely";
import type { Cidr } from "../../kit/ip.js";
import { cidr, parseWith } from "../../wire/schema.js";
import { AuditTable } from "./audit.js";
import { DeviceTable } from "./devices.js";
import { JoinKeyTable } from "./joinkeys.js";
import { migrate } from "./migrate.js";
import { MIGRATIONS, type Migration } from "./migrations.js";
import type { Tables } from "./schema.js";
import { SettingTable } from "./settings.js";

/** The tables as one transaction, or a reader outside of any, sees them. */
export type StoreView = {
  readonly devices: DeviceTable;
  readonly joinKeys: JoinKeyTable;
  readonly settings: SettingTable;
  readonly audit: AuditTable;
};

/** What the coordinator remembers. It speaks SQL and decides nothing. */
export class Store {
  readonly #db: Kysely<Tables>;
  /** Outside of any transaction: for reading. */
  readonly view: StoreView;
  /** Grows with every opening: numbers made from it grow across restarts, whatever the clock does. */
  readonly epoch: number;
  /** The network's IPv6 prefix, made when the store was. */
  readonly ula: Cidr;

  private constructor(db: Kysely<Tables>, epoch: number, ula: Cidr) {
    this.#db = db;
    this.view = viewOf(db);
    this.epoch = epoch;
    this.ula = ula;
  }

  /** Brings the tables up to date; `ula` is taken when the store is new. */
  static async open(dialect: Dialect, ula: Cidr, migrations: readonly Migration[] = MIGRATIONS): Promise<Store> {
    const db = new Kysely<Tables>({ dialect });
    try {
      await migrate(db, migrations);
      return await db.transaction().execute(async (within) => {
        const settings = new SettingTable(within);
        const kept = await settings.getOrSet("ula", ula);
        const epoch = Number((await settings.get("epoch")) ?? 0) + 1;
        await settings.set("epoch", String(epoch));
        return new Store(db, epoch, parseWith(cidr, kept, "the store's IPv6 prefix", "store-unusable"));
      });
    } catch (error) {
      await db.destroy();
      throw error;
    }
  }

  /** One transaction: everything in `work` lasts, or nothing of it. */
  change<T>(work: (view: StoreView) => Promise<T>): Promise<T> {
    return this.#db.transaction().execute((within) => work(viewOf(within)));
  }

  async close(): Promise<void> {
    await this.#db.destroy();
  }
}

const viewOf = (db: Kysely<Tables>): StoreView => ({
  devices: new DeviceTable(db),
  joinKeys: new JoinKeyTable(db),
  settings: new SettingTable(db),
  audit: new AuditTable(db),
});
