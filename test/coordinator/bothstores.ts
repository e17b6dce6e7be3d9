import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe } from "node:test";
import { openPostgresStore } from "../../src/cli/postgresstore.js";
import { localFiles } from "../../src/sys/files.js";
import { type Bench, type BenchOptions, openBench } from "./bench.js";
import { startPostgres, type TestPostgres } from "./postgres.js";

/** Coordinators over one kind of store, each over an empty one. */
export type Stores = {
  open(options?: BenchOptions): Promise<Bench>;
  /** Everything that the store of the bench holds, in whatever form, to be searched. */
  stored(bench: Bench): Promise<string>;
};

/** The same claims over SQLite and over PostgreSQL. */
export function overBothStores(claims: (stores: Stores) => void): void {
  describe("over SQLite", () =>
    claims({
      open: openBench,
      async stored({ folder }) {
        const names = readdirSync(folder).filter((name) => name.startsWith("coordinator.db"));
        return names.map((name) => readFileSync(join(folder, name), "latin1")).join("\n");
      },
    }));
  describe("over PostgreSQL", () => {
    let postgres: TestPostgres | undefined;
    const databases = new Map<Bench, string>();
    const server = (): TestPostgres => {
      if (postgres === undefined) throw new Error("PostgreSQL is not there yet");
      return postgres;
    };
    before(async () => {
      postgres = await startPostgres();
    });
    claims({
      async open(options = {}) {
        const { host, port, user } = server();
        const database = await server().database();
        const bench = await openBench({
          ...options,
          parts: { openPostgres: (want) => openPostgresStore(localFiles, want), ...options.parts },
          want: { store: { kind: "postgres", host, port, user, database, tls: "off" }, ...options.want },
        });
        databases.set(bench, database);
        return bench;
      },
      stored: async (bench) =>
        JSON.stringify(await server().run(databases.get(bench) ?? "", "select database_to_xml(true, true, '')")),
    });
    // After those of the claims, which close what is connected to it.
    after(() => server().close());
  });
}
