import type { Kysely } from "kysely";
import type { Tables } from "./schema.js";

/** A row that is not as it was, by its table and its name. */
export type Changed = { readonly seq: number; readonly kind: string; readonly id: string };

/** Rows of the table `change` that are kept; who is further behind reads everything anew. */
export const CHANGES_KEPT = 20_000;

/** What several coordinators over one store have to read anew. Empty where the store is not shared. */
export class ChangeTable {
  readonly #db: Kysely<Tables>;

  constructor(db: Kysely<Tables>) {
    this.#db = db;
  }

  async last(): Promise<number> {
    const row = await this.#db.selectFrom("change").select("seq").orderBy("seq", "desc").limit(1).executeTakeFirst();
    return row?.seq ?? 0;
  }

  /** Numbers have no gaps; the first row has a higher one than `seq + 1` when older ones were let go. */
  since(seq: number): Promise<Changed[]> {
    return this.#db
      .selectFrom("change")
      .select(["seq", "kind", "id"])
      .where("seq", ">", seq)
      .orderBy("seq")
      .limit(CHANGES_KEPT)
      .execute();
  }

  async prune(): Promise<void> {
    const oldest = (await this.last()) - CHANGES_KEPT;
    if (oldest > 0) await this.#db.deleteFrom("change").where("seq", "<=", oldest).execute();
  }
}
