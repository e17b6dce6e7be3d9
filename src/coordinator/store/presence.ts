import type { Kysely } from "kysely";
import type { PresenceRow, Tables } from "./schema.js";

/** Which devices are connected to which of several coordinators. A single coordinator knows that by itself. */
export class PresenceTable {
  readonly #db: Kysely<Tables>;

  constructor(db: Kysely<Tables>) {
    this.#db = db;
  }

  all(): Promise<PresenceRow[]> {
    return this.#db.selectFrom("presence").selectAll().execute();
  }

  async of(deviceIds: readonly string[]): Promise<PresenceRow[]> {
    if (deviceIds.length === 0) return [];
    return this.#db.selectFrom("presence").selectAll().where("device_id", "in", deviceIds).execute();
  }

  /** A device is where it came last. One that is removed by now is nowhere. */
  async put(deviceIds: readonly string[], holder: string): Promise<void> {
    if (deviceIds.length === 0) return;
    await this.#db
      .insertInto("presence")
      .columns(["device_id", "holder"])
      .expression(({ selectFrom, val }) =>
        selectFrom("device")
          .select(["id", val(holder).as("holder")])
          .where("id", "in", deviceIds),
      )
      .onConflict((conflict) => conflict.column("device_id").doUpdateSet({ holder }))
      .execute();
  }

  /** Those that have come to another coordinator since are that one's. */
  async remove(deviceIds: readonly string[], holder: string): Promise<void> {
    if (deviceIds.length === 0) return;
    await this.#db.deleteFrom("presence").where("device_id", "in", deviceIds).where("holder", "=", holder).execute();
  }

  async removeAllOf(holder: string): Promise<void> {
    await this.#db.deleteFrom("presence").where("holder", "=", holder).execute();
  }
}
