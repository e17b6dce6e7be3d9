import { type Kysely, sql } from "kysely";
import { Failure } from "../../kit/failure.js";
import type { Migration } from "./migrations.js";

/** Brings a store's tables up to date, each migration whole or not at all; a newer version's store is refused. */
export async function migrate<T>(db: Kysely<T>, migrations: readonly Migration[]): Promise<void> {
  await sql`create table if not exists migration (id text primary key)`.execute(db);
  const ran = await sql<{ id: string }>`select id from migration order by id`.execute(db);
  const known = new Set(migrations.map(({ id }) => id));
  const foreign = ran.rows.find(({ id }) => !known.has(id));
  if (foreign !== undefined)
    throw new Failure("store-newer", `the store was written by a newer version (it has the migration ${foreign.id})`, {
      advice: "run that version again, or restore the backup made before it",
    });
  const done = new Set(ran.rows.map(({ id }) => id));
  for (const { id, up } of migrations) {
    if (done.has(id)) continue;
    await db.transaction().execute(async (within) => {
      for (const statement of up) await sql.raw(statement).execute(within);
      await sql`insert into migration (id) values (${id})`.execute(within);
    });
  }
}
