import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import Database from "libsql";
import { packBackup, putBackup, takeBackup, unpackBackup } from "../../src/cli/backupstore.js";
import type { CoordinatorStatus, DeviceInfo } from "../../src/wire/adminapi.js";
import type { StoreConfig } from "../../src/wire/coordinatorconfig.js";
import { TestDevice } from "./bench.js";
import { freePort } from "./freeport.js";
import { startPostgres, type TestPostgres } from "./postgres.js";
import { CoordinatorProcess } from "./process.js";

/** Real coordinators as processes: one is backed up while it runs, others become it. */
const LIMIT = { timeout: 120_000 };
let folder: string;
let postgres: TestPostgres;
const processes: CoordinatorProcess[] = [];
const devices: TestDevice[] = [];
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "exn-backup-"));
  postgres = await startPostgres();
});
after(async () => {
  for (const device of devices) device.stop();
  await Promise.all(devices.map(({ stopped }) => stopped));
  await Promise.all(processes.map((one) => one.end()));
  await postgres.close();
  await rm(folder, { recursive: true, force: true });
});

const places = (name: string) => ({ etc: join(folder, name), var: join(folder, name), run: join(folder, name) });
async function start(name: string, store: StoreConfig, port?: number): Promise<CoordinatorProcess> {
  const started = await CoordinatorProcess.start({
    folder: join(folder, name),
    port: port ?? (await freePort()),
    store,
  });
  processes.push(started);
  return started;
}
async function joined(at: CoordinatorProcess, name: string): Promise<TestDevice> {
  const device = new TestDevice(at, name, await at.key({ role: "device" }));
  devices.push(device);
  return device.until(({ map }) => map !== undefined);
}
const inPostgres = async (): Promise<StoreConfig> => {
  const { host, port, user } = postgres;
  return { kind: "postgres", host, port, user, database: await postgres.database(), tls: "off" };
};

for (const [from, to] of [
  ["sqlite", "sqlite"],
  ["sqlite", "postgres"],
  ["postgres", "sqlite"],
] as const)
  test(`from ${from} to ${to}: devices come back by themselves to a coordinator made of a backup`, LIMIT, async () => {
    const storeOf = async (kind: string): Promise<StoreConfig> =>
      kind === "sqlite" ? { kind: "sqlite" } : await inPostgres();
    const names = { old: `old-${from}-${to}`, fresh: `fresh-${from}-${to}` };
    const old = await start(names.old, await storeOf(from));
    const one = await joined(old, "one");
    const two = await joined(old, "two");
    await one.sees("two");
    const { bytes, ...facts } = await takeBackup(places(names.old), Date.now());
    assert.equal(facts.devices, 2);
    // After the backup, and so lost by the restore: but the devices have seen its maps, and their numbers.
    const late = await joined(old, "late");
    await one.sees("late");
    const status = (await old.call("GET", "/status")) as CoordinatorStatus;
    const lastSeq = one.map?.seq ?? 0;
    const address = one.map?.self.addresses[0];
    await old.end();

    const fresh = await start(names.fresh, await storeOf(to), old.port);
    await fresh.end("SIGTERM");
    const restored = await putBackup(places(names.fresh), unpackBackup(packBackup(bytes)), Date.now());
    assert.deepEqual(restored, facts);
    await fresh.start();
    const now = (await fresh.call("GET", "/status")) as CoordinatorStatus;
    assert.equal(now.publicKey, status.publicKey);
    assert.equal(now.tlsFingerprint, status.tlsFingerprint);
    assert.equal(now.admissionKey, status.admissionKey);
    await one.until(({ map }) => (map?.seq ?? 0) > lastSeq && map?.peers.map(({ name }) => name).join() === "two");
    await two.sees("one");
    assert.equal(one.map?.self.addresses[0], address);
    assert.equal(await late.stopped, "refused", "who joined after the backup is not known any more");
    const told = (await fresh.call("POST", "/devices/two/revoke")) as DeviceInfo;
    assert.equal(told.told?.confirmed, 1);
    if (to === "sqlite") assert.equal((await stat(join(folder, names.fresh, "noise.key"))).mode & 0o777, 0o600);
  });

test("a running coordinator is not restored over", LIMIT, async () => {
  const running = await start("running", { kind: "sqlite" });
  const { bytes } = await takeBackup(places("running"), Date.now());
  await assert.rejects(putBackup(places("running"), bytes, Date.now()), { code: "coordinator-running" });
  await running.end();
  await putBackup(places("running"), bytes, Date.now());
});

test(
  "what is no backup replaces nothing: not a store, not a backup of a newer version, not a piece of one",
  LIMIT,
  async () => {
    const kept = await start("kept", { kind: "sqlite" });
    await joined(kept, "one");
    const { bytes } = await takeBackup(places("kept"), Date.now());
    await kept.end("SIGTERM");
    const before = await readFile(join(folder, "kept", "noise.key"), "utf8");
    const refused = (bytes: Uint8Array, code: string) =>
      assert.rejects(putBackup(places("kept"), bytes, Date.now()), { code });
    await refused(await readFile(join(folder, "kept", "coordinator.db")), "backup-invalid");
    await refused(bytes.subarray(0, bytes.length / 2), "store-unusable");
    await refused(
      new TextEncoder().encode("a letter to grandmother, and no network at all ".repeat(300)),
      "store-unusable",
    );
    const newer = join(folder, "newer.db");
    await writeFile(newer, bytes);
    const database = new Database(newer);
    database.exec("insert into migration (id) values ('9999-more')");
    database.close();
    await refused(await readFile(newer), "store-newer");
    assert.equal(await readFile(join(folder, "kept", "noise.key"), "utf8"), before);
    await kept.start();
    assert.deepEqual(
      (await kept.devices()).map(({ name }) => name),
      ["one"],
    );
  },
);
