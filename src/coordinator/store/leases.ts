import { type Kysely, sql } from "kysely";
import type { Millis } from "../../kit/time.js";
import type { LeaseRow, Tables } from "./schema.js";

/** What one coordinator of several holds for a while. The database's clock decides, for theirs may differ. */
export class LeaseTable {
  readonly #db: Kysely<Tables>;
  readonly #shared: boolean;

  constructor(db: Kysely<Tables>, shared: boolean) {
    this.#db = db;
    this.#shared = shared;
  }

  /** Takes a free or run-out lease, or renews one's own; false when another holds it. */
  async take(name: string, holder: string, lifetimeMs: Millis): Promise<boolean> {
    const now = this.#now();
    const expires = sql<number>`${now} + ${sql.lit(Math.round(lifetimeMs))}`;
    const { numInsertedOrUpdatedRows } = await this.#db
      .insertInto("lease")
      .values({ name, holder, expires_at_ms: expires })
      .onConflict((conflict) =>
        conflict
          .column("name")
          .doUpdateSet({ holder, expires_at_ms: expires })
          .where((row) => row.or([row("lease.holder", "=", holder), row("lease.expires_at_ms", "<", now)])),
      )
      .executeTakeFirstOrThrow();
    return (numInsertedOrUpdatedRows ?? 0n) > 0n;
  }

  /** All whose names begin so, and whether they have run out. */
  async list(prefix: string): Promise<(Pick<LeaseRow, "name" | "holder"> & { readonly over: boolean })[]> {
    const rows = await this.#db
      .selectFrom("lease")
      .select(["name", "holder", sql<number>`${this.#now()} - expires_at_ms`.as("over_ms")])
      .where("name", "like", `${prefix}%`)
      .execute();
    return rows.map(({ name, holder, over_ms }) => ({ name, holder, over: over_ms > 0 }));
  }

  async end(name: string, holder: string): Promise<void> {
    await this.#db.deleteFrom("lease").where("name", "=", name).where("holder", "=", holder).execute();
  }

  #now() {
    return this.#shared
      ? sql<number>`(extract(epoch from clock_timestamp()) * 1000)::bigint`
      : sql<number>`cast((julianday('now') - 2440587.5) * 86400000 as integer)`;
  }
}
