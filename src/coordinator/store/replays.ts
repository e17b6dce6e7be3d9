import type { Kysely } from "kysely";
import type { Millis } from "../../kit/time.js";
import type { ReplayRow, Tables } from "./schema.js";

/** Requests with an idempotency key, and what was answered to them. */
export class ReplayTable {
  readonly #db: Kysely<Tables>;

  constructor(db: Kysely<Tables>) {
    this.#db = db;
  }

  find(id: string): Promise<ReplayRow | undefined> {
    return this.#db.selectFrom("replay").selectAll().where("id", "=", id).executeTakeFirst();
  }

  async add(row: ReplayRow): Promise<void> {
    await this.#db.insertInto("replay").values(row).execute();
  }

  async settle(id: string, status: number, body: string): Promise<void> {
    await this.#db.updateTable("replay").set({ status, body }).where("id", "=", id).execute();
  }

  async remove(id: string): Promise<void> {
    await this.#db.deleteFrom("replay").where("id", "=", id).execute();
  }

  /** Forgets those from before `since`, and the oldest as long as there are more than `most`. */
  async prune(since: Millis, most: number): Promise<void> {
    await this.#db.deleteFrom("replay").where("at_ms", "<", since).execute();
    const oldest = await this.#db
      .selectFrom("replay")
      .select("at_ms")
      .orderBy("at_ms", "desc")
      .offset(most)
      .limit(1)
      .executeTakeFirst();
    if (oldest !== undefined) await this.#db.deleteFrom("replay").where("at_ms", "<=", oldest.at_ms).execute();
  }
}
