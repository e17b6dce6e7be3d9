import { type Kysely, type QueryExecutorProvider, sql } from "kysely";
import { Failure } from "../../kit/failure.js";
import type { Migration } from "./migrations.js";

/**
 * Brings a store's tables up to date, each migration whole or not at all; a newer version's store is refused. `turn`
 * begins every transaction: where several coordinators start at once, each migration runs in one of them.
 */
export async function migrate<T>(
  db: Kysely<T>,
  migrations: readonly Migration[],
  turn: (within: QueryExecutorProvider) => Promise<void> = async () => undefined,
): Promise<void> {
  const ran = await db.transaction().execute(async (within) => {
    await turn(within);
    await sql`create table if not exists migration (id text primary key)`.execute(within);
    return migrationsIn(within);
  });
  const known = new Set(migrations.map(({ id }) => id));
  const foreign = ran.find((id) => !known.has(id));
  if (foreign !== undefined)
    throw new Failure("store-newer", `the store was written by a newer version (it has the migration ${foreign})`, {
      advice: "run that version again, or restore the backup made before it",
    });
  for (const { id, up } of migrations) {
    if (ran.includes(id)) continue;
    await db.transaction().execute(async (within) => {
      await turn(within);
      if ((await migrationsIn(within)).includes(id)) return;
      for (const statement of up) await sql.raw(statement).execute(within);
      await sql`insert into migration (id) values (${id})`.execute(within);
    });
  }
}

/** The ids of the migrations that a store has been through. */
export async function migrationsIn(db: QueryExecutorProvider): Promise<string[]> {
  const { rows } = await sql<{ id: string }>`select id from migration order by id`.execute(db);
  return rows.map(({ id }) => id);
}
