import type { Kysely } from "kysely";
import type { Millis } from "../../kit/time.js";
import type { SessionRow, Tables } from "./schema.js";

/** People's sessions in browsers, by the hash of their cookie. */
export class SessionTable {
  readonly #db: Kysely<Tables>;

  constructor(db: Kysely<Tables>) {
    this.#db = db;
  }

  find(id: string): Promise<SessionRow | undefined> {
    return this.#db.selectFrom("web_session").selectAll().where("id", "=", id).executeTakeFirst();
  }

  async add(row: SessionRow): Promise<void> {
    await this.#db.insertInto("web_session").values(row).execute();
  }

  async extend(id: string, expiresAtMs: Millis): Promise<void> {
    await this.#db.updateTable("web_session").set({ expires_at_ms: expiresAtMs }).where("id", "=", id).execute();
  }

  async remove(id: string): Promise<void> {
    await this.#db.deleteFrom("web_session").where("id", "=", id).execute();
  }

  async removeOf(userId: string): Promise<void> {
    await this.#db.deleteFrom("web_session").where("user_id", "=", userId).execute();
  }

  /** Forgets what has expired, and a user's oldest ones beyond `most`. */
  async prune(now: Millis, userId: string, most: number): Promise<void> {
    await this.#db.deleteFrom("web_session").where("expires_at_ms", "<=", now).execute();
    const excess = await this.#db
      .selectFrom("web_session")
      .select("id")
      .where("user_id", "=", userId)
      .orderBy("created_at_ms", "desc")
      .offset(most)
      .limit(100)
      .execute();
    for (const { id } of excess) await this.remove(id);
  }
}
