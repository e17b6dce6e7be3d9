import type { Kysely } from "kysely";
import type { Millis } from "../../kit/time.js";
import type { InviteRow, Tables } from "./schema.js";

/** One-time links with which people enrol a passkey, by the hash of their secret. */
export class InviteTable {
  readonly #db: Kysely<Tables>;

  constructor(db: Kysely<Tables>) {
    this.#db = db;
  }

  find(id: string): Promise<InviteRow | undefined> {
    return this.#db.selectFrom("invite").selectAll().where("id", "=", id).executeTakeFirst();
  }

  /** A person has one at most: the newest. */
  async add(row: InviteRow): Promise<void> {
    await this.removeOf(row.user_id);
    await this.#db.insertInto("invite").values(row).execute();
  }

  async removeOf(userId: string): Promise<void> {
    await this.#db.deleteFrom("invite").where("user_id", "=", userId).execute();
  }

  async prune(now: Millis): Promise<void> {
    await this.#db.deleteFrom("invite").where("expires_at_ms", "<=", now).execute();
  }
}
