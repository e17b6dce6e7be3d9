import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Dialect, Kysely, PostgresDialect, SqliteDialect } from "kysely";
import type { Tables } from "../../src/coordinator/store/schema.js";
import { Store } from "../../src/coordinator/store/store.js";
import type { Cidr } from "../../src/kit/ip.js";
import { openPostgres } from "../../src/sys/postgres.js";
import { openSqlite } from "../../src/sys/sqlite.js";
import { startPostgres } from "./postgres.js";

/** An empty store of either kind, for what must hold in both; `db` is a second way into its tables. */
export type Engine = { readonly name: string; open(): Promise<Opened> };
export type Opened = { readonly store: Store; readonly db: Kysely<Tables>; end(): Promise<void> };

const ULA = "fd01:203:405::/48" as Cidr;

/** SQLite in a folder of its own, and a PostgreSQL that `close` ends. */
export async function startEngines(): Promise<{ readonly engines: readonly Engine[]; close(): Promise<void> }> {
  const postgres = await startPostgres();
  const engines: Engine[] = [
    {
      name: "sqlite",
      async open() {
        const folder = await mkdtemp(join(tmpdir(), "exn-o-store-"));
        const remove = (): Promise<void> => rm(folder, { recursive: true, force: true });
        return opened(() => new SqliteDialect({ database: openSqlite(join(folder, "coordinator.db")) }), remove);
      },
    },
    {
      name: "postgres",
      async open() {
        const { host, port } = postgres;
        const database = await postgres.database();
        const want = { host, port, user: "postgres", database, tls: { kind: "off" } } as const;
        return opened(() => new PostgresDialect({ pool: openPostgres(want).pool }));
      },
    },
  ];
  return { engines, close: () => postgres.close() };
}

async function opened(dialect: () => Dialect, remove: () => Promise<void> = async () => undefined): Promise<Opened> {
  const store = await Store.open(dialect(), ULA);
  const db = new Kysely<Tables>({ dialect: dialect() });
  return {
    store,
    db,
    async end() {
      await Promise.all([store.close(), db.destroy()]);
      await remove();
    },
  };
}
