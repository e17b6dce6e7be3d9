import type { Kysely } from "kysely";
import type { Millis } from "../../kit/time.js";
import type { PasskeyRow, Tables } from "./schema.js";

/** People's passkeys: credential ids and public keys in base64url. */
export class PasskeyTable {
  readonly #db: Kysely<Tables>;

  constructor(db: Kysely<Tables>) {
    this.#db = db;
  }

  find(id: string): Promise<PasskeyRow | undefined> {
    return this.#db.selectFrom("passkey").selectAll().where("id", "=", id).executeTakeFirst();
  }

  of(userId: string): Promise<PasskeyRow[]> {
    return this.#db.selectFrom("passkey").selectAll().where("user_id", "=", userId).orderBy("created_at_ms").execute();
  }

  async add(row: PasskeyRow): Promise<void> {
    await this.#db.insertInto("passkey").values(row).execute();
  }

  async used(id: string, counter: number, at: Millis): Promise<void> {
    await this.#db.updateTable("passkey").set({ counter, used_at_ms: at }).where("id", "=", id).execute();
  }

  async remove(id: string): Promise<void> {
    await this.#db.deleteFrom("passkey").where("id", "=", id).execute();
  }
}
