import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { readCoordinatorConfig } from "../../src/cli/coordinatordaemon.js";
import { openPostgresStore } from "../../src/cli/postgresstore.js";
import { localFiles } from "../../src/sys/files.js";
import { storeConfig } from "../../src/wire/coordinatorconfig.js";

let etc: string;
beforeEach(async () => {
  etc = await mkdtemp(join(tmpdir(), "exn-config-"));
});
afterEach(() => rm(etc, { recursive: true, force: true }));
const write = (name: string, text: string): Promise<void> => writeFile(join(etc, name), text);
const read = () => readCoordinatorConfig({ etc, var: etc, run: etc });
const INSTALLED = `listen: { port: 8443 }\nurls: ["https://home.example"]\nadminTokenSha256: "${"0".repeat(64)}"\nmtu: 1400\n`;

test("without more said, the store is a file", async () => {
  await write("coordinator.yaml", INSTALLED);
  assert.deepEqual((await read()).store, { kind: "sqlite" });
});

test("an administrator's own sections take the place of the installed ones and leave the others", async () => {
  await write("coordinator.yaml", INSTALLED);
  await write("coordinator.local.yaml", "store:\n  kind: postgres\n  host: db.example\nmtu: 1300\n");
  const { store, mtu, urls } = await read();
  const { port, database, user, tls } = { port: 5_432, database: "exitnode", user: "exitnode", tls: "verify" };
  assert.deepEqual(store, { kind: "postgres", host: "db.example", port, database, user, tls });
  assert.deepEqual([mtu, urls], [1300, ["https://home.example"]]);
});

test("what is wrong in the own file is told with its name and line", async () => {
  await write("coordinator.yaml", INSTALLED);
  await write("coordinator.local.yaml", "mtu: 1300\nstore:\n  kind: mysql\n");
  await assert.rejects(read(), /coordinator\.local\.yaml.*[23]/s);
});

test("a password stands in a file of its own and nowhere in the configuration", async () => {
  assert.equal(storeConfig.safeParse({ kind: "postgres", host: "db", password: "x" }).success, false);
  const store = storeConfig.parse({ kind: "postgres", host: "db", passwordFile: join(etc, "nothing") });
  assert.ok(store.kind === "postgres");
  await assert.rejects(openPostgresStore(localFiles, store), { code: "coordinator-unconfigured" });
});
