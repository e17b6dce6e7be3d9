import type { Kysely } from "kysely";
import type { Millis } from "../../kit/time.js";
import type { DeliveryRow, Tables } from "./schema.js";

/** Events on their way to webhooks. */
export class DeliveryTable {
  readonly #db: Kysely<Tables>;

  constructor(db: Kysely<Tables>) {
    this.#db = db;
  }

  async add(rows: readonly DeliveryRow[]): Promise<void> {
    if (rows.length > 0) await this.#db.insertInto("delivery").values(rows).execute();
  }

  /** Those of one webhook that may be tried now, in the order of their events. */
  due(webhookId: string, now: Millis, limit: number): Promise<DeliveryRow[]> {
    return this.#db
      .selectFrom("delivery")
      .selectAll()
      .where("webhook_id", "=", webhookId)
      .where("next_at_ms", "<=", now)
      .orderBy("id")
      .limit(limit)
      .execute();
  }

  async pending(): Promise<ReadonlyMap<string, number>> {
    const rows = await this.#db
      .selectFrom("delivery")
      .select(["webhook_id", ({ fn }) => fn.countAll<number>().as("count")])
      .groupBy("webhook_id")
      .execute();
    return new Map(rows.map(({ webhook_id, count }) => [webhook_id, Number(count)]));
  }

  async remove(id: string): Promise<void> {
    await this.#db.deleteFrom("delivery").where("id", "=", id).execute();
  }

  async removeAll(webhookId: string): Promise<void> {
    await this.#db.deleteFrom("delivery").where("webhook_id", "=", webhookId).execute();
  }

  /** One more attempt has failed: it and all that wait behind it are due at `at`. */
  async postpone({ id, webhook_id }: DeliveryRow, attempts: number, at: Millis): Promise<void> {
    await this.#db.updateTable("delivery").set({ attempts }).where("id", "=", id).execute();
    await this.#db
      .updateTable("delivery")
      .set({ next_at_ms: at })
      .where("webhook_id", "=", webhook_id)
      .where("next_at_ms", "<", at)
      .execute();
  }

  /** Forgets the oldest of a webhook as long as there are more than `most`. */
  async prune(webhookId: string, most: number): Promise<void> {
    const last = await this.#db
      .selectFrom("delivery")
      .select("id")
      .where("webhook_id", "=", webhookId)
      .orderBy("id", "desc")
      .offset(most)
      .limit(1)
      .executeTakeFirst();
    if (last !== undefined)
      await this.#db.deleteFrom("delivery").where("webhook_id", "=", webhookId).where("id", "<=", last.id).execute();
  }
}
