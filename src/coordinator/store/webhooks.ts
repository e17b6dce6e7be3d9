import type { Kysely } from "kysely";
import type { Millis } from "../../kit/time.js";
import { parseWith } from "../../wire/schema.js";
import { jsonWords } from "./devices.js";
import type { Tables } from "./schema.js";

/** Where an event goes that matches one of the patterns. */
export type Webhook = {
  readonly id: string;
  readonly url: string;
  readonly secret: string;
  readonly actions: readonly string[];
  readonly createdAtMs: Millis;
  /** It was given up: nothing is sent there. */
  readonly disabledAtMs?: Millis;
};

/** The webhooks, as the store keeps them. Their secrets are readable in it: they are what events are signed with. */
export class WebhookTable {
  readonly #db: Kysely<Tables>;

  constructor(db: Kysely<Tables>) {
    this.#db = db;
  }

  async all(): Promise<Webhook[]> {
    const rows = await this.#db.selectFrom("webhook").selectAll().orderBy("created_at_ms").orderBy("id").execute();
    return rows.map((row) => ({
      id: row.id,
      url: row.url,
      secret: row.secret,
      actions: parseWith(jsonWords, row.actions, `webhook ${row.id} in the store`, "store-unusable"),
      createdAtMs: row.created_at_ms,
      ...(row.disabled_at_ms === null ? {} : { disabledAtMs: row.disabled_at_ms }),
    }));
  }

  async add({ id, url, secret, actions, createdAtMs }: Webhook): Promise<void> {
    await this.#db
      .insertInto("webhook")
      .values({ id, url, secret, actions: JSON.stringify(actions), created_at_ms: createdAtMs, disabled_at_ms: null })
      .execute();
  }

  async setDisabled(id: string, at: Millis | null): Promise<void> {
    await this.#db.updateTable("webhook").set({ disabled_at_ms: at }).where("id", "=", id).execute();
  }

  /** False when there is no such webhook; its deliveries go with it. */
  async remove(id: string): Promise<boolean> {
    await this.#db.deleteFrom("delivery").where("webhook_id", "=", id).execute();
    const { numDeletedRows } = await this.#db.deleteFrom("webhook").where("id", "=", id).executeTakeFirst();
    return numDeletedRows > 0n;
  }
}
