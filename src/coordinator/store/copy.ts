import type { Kysely } from "kysely";
import type { Tables } from "./schema.js";

/**
 * Every table, parents before their children, and whether a copy of the store has it: what only holds while
 * coordinators run is left out.
 */
const COPIED = {
  setting: true,
  member: true,
  passkey: true,
  web_session: false,
  invite: true,
  sign_in: false,
  api_token: true,
  join_key: true,
  device: true,
  policy: true,
  audit: true,
  webhook: true,
  delivery: true,
  replay: false,
  change: false,
  lease: false,
  presence: false,
} as const satisfies Record<keyof Tables, boolean>;

/** SQLite takes 32766 parameters in a statement, and no table has as many as 32 columns. */
const ROWS_AT_ONCE = 1_000;

const isTable = (name: string): name is keyof Tables => name in COPIED;

/** Makes `to` hold what `from` holds, and nothing else; both are transactions. */
export async function copyTables(from: Kysely<Tables>, to: Kysely<Tables>): Promise<void> {
  const tables = Object.keys(COPIED).filter(isTable);
  // What was replaced is of no use to who follows the changes: `change` stays, so that its numbers go on.
  for (const table of [...tables].reverse()) if (table !== "change") await to.deleteFrom(table).execute();
  for (const table of tables.filter((one) => COPIED[one])) {
    const rows = await from.selectFrom(table).selectAll().execute();
    for (let at = 0; at < rows.length; at += ROWS_AT_ONCE)
      await to
        .insertInto(table)
        .values(rows.slice(at, at + ROWS_AT_ONCE))
        .execute();
  }
}
