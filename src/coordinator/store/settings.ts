import type { Kysely } from "kysely";
import type * as z from "zod";
import { tryJson } from "../../kit/json.js";
import { parseWith } from "../../wire/schema.js";
import type { Tables } from "./schema.js";

/** Single values that last: text by name. */
export class SettingTable {
  readonly #db: Kysely<Tables>;

  constructor(db: Kysely<Tables>) {
    this.#db = db;
  }

  async get(name: string): Promise<string | undefined> {
    const row = await this.#db.selectFrom("setting").select("value").where("name", "=", name).executeTakeFirst();
    return row?.value;
  }

  async set(name: string, value: string): Promise<void> {
    await this.#db
      .insertInto("setting")
      .values({ name, value })
      .onConflict((conflict) => conflict.column("name").doUpdateSet({ value }))
      .execute();
  }

  async remove(name: string): Promise<void> {
    await this.#db.deleteFrom("setting").where("name", "=", name).execute();
  }

  /** The value that is there, or else the one offered, which is kept. */
  async getOrSet(name: string, offered: string): Promise<string> {
    await this.#db
      .insertInto("setting")
      .values({ name, value: offered })
      .onConflict((conflict) => conflict.doNothing())
      .execute();
    return (await this.get(name)) ?? offered;
  }

  /** A value kept as JSON; undefined when it was never set. */
  async getJson<T>(name: string, schema: z.ZodType<T>): Promise<T | undefined> {
    const value = await this.get(name);
    if (value === undefined) return undefined;
    return parseWith(schema, tryJson(value), `the setting ${name} in the store`, "store-unusable");
  }
}
