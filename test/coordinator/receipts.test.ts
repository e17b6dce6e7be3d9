import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import type { DeviceInfo } from "../../src/wire/adminapi.js";
import { TestDevice } from "./bench.js";
import { freePort } from "./freeport.js";
import { startPostgres, type TestPostgres } from "./postgres.js";
import { CoordinatorProcess } from "./process.js";
import { joinRaw } from "./rawdevice.js";

/** What the answer to a revocation says where two coordinators share one PostgreSQL, and a device of each is there. */
const LIMIT = { timeout: 120_000 };
let folder: string;
let postgres: TestPostgres;
let database: string;
let a: CoordinatorProcess;
let b: CoordinatorProcess;
let near: TestDevice;
let far: TestDevice;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), "exn-ky-receipts-"));
  postgres = await startPostgres();
  const { host, port, user } = postgres;
  database = await postgres.database();
  const store = { kind: "postgres", host, port, user, database, tls: "off" } as const;
  const start = async (name: string) =>
    CoordinatorProcess.start({ folder: join(folder, name), port: await freePort(), store });
  [a, b] = await Promise.all([start("a"), start("b")]);
  near = new TestDevice(a, "near", await a.key({ role: "device" }));
  far = new TestDevice(b, "far", await b.key({ role: "device" }));
  await Promise.all([near.sees("far"), far.sees("near")]);
});
after(async () => {
  for (const device of [near, far]) device.stop();
  b.goesOn();
  await Promise.all([near.stopped, far.stopped]);
  await Promise.all([a.end(), b.end()]);
  await postgres.close();
  await rm(folder, { recursive: true, force: true });
});

/** Keeps the lease of the coordinator that has the device `far` from running out; no row while somebody has the lock. */
const KEEP_LIVE = `
  update lease set expires_at_ms = expires_at_ms + 600000 from presence join device on device.id = presence.device_id
  where device.name = 'far' and lease.name = 'coordinator:' || presence.holder
    and expires_at_ms > extract(epoch from clock_timestamp()) * 1000
    and not exists (select 1 from pg_locks where locktype = 'advisory')
  returning lease.name`;

/** Stopped at a moment at which it keeps nobody from the database, and not taken for dead however long that lasts. */
async function standing(one: CoordinatorProcess): Promise<void> {
  for (;;) {
    one.stands();
    if ((await postgres.run(database, KEEP_LIVE)).length > 0) return;
    one.goesOn();
    await one.call("GET", "/status");
  }
}

async function revoked(name: string): Promise<NonNullable<DeviceInfo["told"]>> {
  const victim = new TestDevice(a, name, await a.key({ role: "device" }));
  await Promise.all([near.sees(name), far.sees(name)]);
  const { told } = (await a.call("POST", `/devices/${name}/revoke`)) as DeviceInfo;
  assert.equal(await victim.stopped, "refused");
  return told ?? assert.fail("a receipt");
}

test("the receipt names who has confirmed at the other coordinator as well, and who has not", LIMIT, async () => {
  const all = await revoked("first");
  assert.deepEqual([all.peers, all.confirmed, all.silent, all.unheard], [2, 2, [], undefined]);
  assert.deepEqual(all.devices?.map(({ name }) => name).sort(), ["far", "near"]);
  // It reads nothing, and so confirms nothing.
  const deaf = await joinRaw({ coordinator: b, key: async (wanted) => ({ secret: await b.key(wanted) }) }, "deaf");
  await Promise.all([near.sees("deaf"), far.sees("deaf")]);
  const most = await revoked("second");
  assert.deepEqual([most.peers, most.confirmed, most.silent, most.unheard], [3, 2, ["deaf"], undefined]);
  deaf.socket.terminate();
});

test(
  "a coordinator that does not tell is not passed over: its devices are not counted, and that is said",
  LIMIT,
  async () => {
    const victim = new TestDevice(a, "third", await a.key({ role: "device" }));
    await Promise.all([near.sees("third"), far.sees("third")]);
    await near.until(({ map }) => map?.peers.find(({ name }) => name === "deaf")?.online === false);
    await standing(b);
    const { told } = (await a.call("POST", "/devices/third/revoke")) as DeviceInfo;
    b.goesOn();
    assert.deepEqual([told?.peers, told?.confirmed, told?.unheard], [1, 1, 1]);
    await far.until(({ map }) => map?.peers.every(({ name }) => name !== "third") === true);
    assert.equal(await victim.stopped, "refused");
  },
);
