import assert from "node:assert/strict";
import { mkdtemp, rm, stat, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, beforeEach, test } from "node:test";
import { type Dialect, PostgresDialect, SqliteDialect } from "kysely";
import type { Device } from "../../src/coordinator/device.js";
import type { StoredKey } from "../../src/coordinator/joinkeys.js";
import { MIGRATIONS, type Migration } from "../../src/coordinator/store/migrations.js";
import { Store } from "../../src/coordinator/store/store.js";
import { utf8 } from "../../src/kit/bytes.js";
import { hash } from "../../src/kit/crypto.js";
import type { Cidr, Ip } from "../../src/kit/ip.js";
import { keyOf } from "../../src/kit/key.js";
import { openPostgres } from "../../src/sys/postgres.js";
import { openSqlite } from "../../src/sys/sqlite.js";
import { startPostgres, type TestPostgres } from "./postgres.js";

const ULA = "fd01:203:405::/48" as Cidr;
const joinKey: StoredKey = {
  id: "k1",
  secretHash: "aa",
  role: "exit-node",
  name: "home",
  reusable: false,
  createdAtMs: 1,
  expiresAtMs: 2,
  tags: ["router"],
  ephemeral: false,
  preapproved: true,
};
const device: Device = {
  id: "d1",
  name: "home",
  wantedName: "home",
  role: "exit-node",
  machineKey: keyOf(hash(utf8("m"))),
  publicKey: keyOf(hash(utf8("w"))),
  ipv4: "100.64.0.1" as Ip,
  ipv6: "fd01:203:405::1" as Ip,
  report: { endpoints: ["203.0.113.7:1"], routes: ["0.0.0.0/0" as Cidr], resolvers: ["100.64.0.1" as Ip] },
  agentVersion: "0.1.0",
  createdAtMs: 5,
  lastSeenAtMs: 5,
  tags: ["router"],
  ephemeral: false,
  approvedAtMs: 5,
  approvedRoutes: ["192.168.7.0/24" as Cidr],
};

let folder: string;
let postgres: TestPostgres;
before(async () => {
  postgres = await startPostgres();
});
after(() => postgres.close());
let database: string;
const path = (): string => join(folder, "coordinator.db");
const sqlite = (): Dialect => new SqliteDialect({ database: openSqlite(path()) });
const open = (ula = ULA): Promise<Store> => Store.open(sqlite(), ula);
const ENGINES: Readonly<Record<string, () => Dialect>> = {
  sqlite,
  postgres: () =>
    new PostgresDialect({
      pool: openPostgres({ host: postgres.host, port: postgres.port, user: "postgres", database, tls: { kind: "off" } })
        .pool,
    }),
};
/** A device comes in by a key, both or neither. */
const joined = (store: Store, device: Device, key: StoredKey, now: number): Promise<void> =>
  store.change(async ({ devices, joinKeys }) => {
    await joinKeys.use(key.id, device.machineKey, now);
    await devices.add(device, key.id);
  });
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "exn-co-store-"));
  database = await postgres.database();
});
afterEach(() => rm(folder, { recursive: true, force: true }));

for (const [engine, dialect] of Object.entries(ENGINES)) {
  const open = (ula = ULA, migrations?: readonly Migration[], now?: number): Promise<Store> =>
    Store.open(dialect(), ula, migrations, now);

  test(`${engine}: what was stored is there after the file is opened again`, async () => {
    const first = await open();
    await first.view.joinKeys.add(joinKey);
    await joined(first, device, joinKey, 7);
    await first.close();
    const second = await open("fd09::/48" as Cidr);
    assert.deepEqual(await second.view.devices.all(), [device]);
    assert.deepEqual(await second.view.joinKeys.bySecret("aa"), { ...joinKey, usedAtMs: 7, usedBy: device.machineKey });
    assert.equal(second.ula, ULA, "the prefix is the one made at birth");
    assert.ok(second.epoch > first.epoch);
    await second.close();
  });

  test(`${engine}: a device that cannot be added leaves its key unused`, async () => {
    const store = await open();
    await store.view.joinKeys.add(joinKey);
    await store.view.joinKeys.add({ ...joinKey, id: "k2", secretHash: "bb" });
    await joined(store, device, joinKey, 7);
    await assert.rejects(joined(store, { ...device, id: "d2" }, { ...joinKey, id: "k2" }, 8), /unique/i);
    assert.equal((await store.view.joinKeys.bySecret("bb"))?.usedAtMs, undefined);
    await store.close();
  });

  test(`${engine}: a device is joined by a key that exists, and outlives it`, async () => {
    const store = await open();
    await assert.rejects(joined(store, device, joinKey, 7), /foreign key/i);
    await store.view.joinKeys.add(joinKey);
    await joined(store, device, joinKey, 7);
    await store.view.joinKeys.forget(["k1"]);
    assert.deepEqual(await store.view.devices.all(), [device]);
    await store.close();
  });

  test(`${engine}: an appended migration runs once, over what is there`, async () => {
    const before = await open();
    await before.view.joinKeys.add(joinKey);
    await before.close();
    const longer = [...MIGRATIONS, { id: "9999-more", up: ["alter table join_key add column note text"] }];
    await (await open(ULA, longer)).close();
    const again = await open(ULA, longer);
    assert.equal((await again.view.joinKeys.bySecret("aa"))?.id, "k1");
    await again.close();
  });

  test(`${engine}: a migration that fails half-way leaves nothing of itself`, async () => {
    await (await open()).close();
    const broken = [...MIGRATIONS, { id: "9999-broken", up: ["create table half (x integer)", "create nonsense"] }];
    await assert.rejects(open(ULA, broken));
    const mended = [...MIGRATIONS, { id: "9999-broken", up: ["create table half (x integer)"] }];
    await (await open(ULA, mended)).close();
  });

  test(`${engine}: a store of a newer version is not touched`, async () => {
    await (await open(ULA, [...MIGRATIONS, { id: "9999-future", up: ["create table future (x integer)"] }])).close();
    await assert.rejects(open(), { code: "store-newer" });
  });

  test(`${engine}: changes begun at once happen one after the other`, async () => {
    const store = await open();
    const add = () =>
      store.change(async ({ settings }) => {
        const count = Number((await settings.get("count")) ?? 0);
        await settings.set("count", String(count + 1));
      });
    await Promise.all(Array.from({ length: 20 }, add));
    assert.equal(await store.view.settings.get("count"), "20");
    await store.close();
  });

  test(`${engine}: of several changes in one transaction the one that fails leaves nothing, and the others last`, async () => {
    const store = await open();
    const adding = (id: string, more: Partial<Device> = {}) => {
      const keys = { machineKey: keyOf(hash(utf8(`m${id}`))), publicKey: keyOf(hash(utf8(`w${id}`))) };
      const addresses = { ipv4: `100.64.1.${id.length}` as Ip, ipv6: `fd01:203:405::1:${id.length}` as Ip };
      const one: Device = { ...device, id, name: id, ...keys, ...addresses, ...more };
      return async ({ devices, settings }: Store["view"]) => {
        await settings.set(id, "written");
        await devices.add(one, null);
        return id;
      };
    };
    const results = await store.changeEach([adding("a"), adding("bb", { name: "a" }), adding("ccc")]);
    assert.deepEqual(
      results.map(({ status }) => status),
      ["fulfilled", "rejected", "fulfilled"],
    );
    assert.deepEqual((await store.view.devices.all()).map(({ id }) => id).sort(), ["a", "ccc"]);
    assert.deepEqual(await Promise.all(["a", "bb", "ccc"].map((name) => store.view.settings.get(name))), [
      "written",
      undefined,
      "written",
    ]);
    const ended = store.changeEach([adding("dddd")], { end: async () => assert.fail("not ended") });
    await assert.rejects(ended, /not ended/);
    assert.equal(await store.view.devices.find("dddd"), undefined);
    await store.close();
  });

  test(`${engine}: an update writes what differs and leaves what another has changed meanwhile`, async () => {
    const store = await open();
    await store.view.devices.add(device, null);
    const revoked = { ...device, revokedAtMs: 9 };
    await store.view.devices.update(device, revoked);
    await store.view.devices.update(device, { ...device, name: "cabin" });
    assert.deepEqual(await store.view.devices.find("d1"), { ...revoked, name: "cabin" });
    await store.close();
  });

  test(`${engine}: a lease has one holder until it is over or given back`, async () => {
    const store = await open();
    const { leases } = store.view;
    assert.equal(await leases.take("sweep", "a", 60_000), true);
    assert.equal(await leases.take("sweep", "a", 60_000), true, "renewed by its holder");
    assert.equal(await leases.take("sweep", "b", 60_000), false);
    await leases.end("sweep", "b");
    assert.equal(await leases.take("sweep", "b", 60_000), false, "none gives back another's");
    await leases.end("sweep", "a");
    assert.equal(await leases.take("sweep", "b", -1), true);
    assert.deepEqual(await leases.list("sw"), [{ name: "sweep", holder: "b", over: true }]);
    assert.equal(await leases.take("sweep", "a", 60_000), true, "b's has run out");
    await store.close();
  });

  test(`${engine}: the numbers of a store go on above those of a later copy of it`, async () => {
    const now = 1_800_000_000_000;
    await (await open(ULA, MIGRATIONS, now)).close();
    const restored = await open(ULA, MIGRATIONS, now + 5 * 3_600_000);
    assert.equal(restored.epoch, 500_005);
    await restored.close();
    const again = await open(ULA, MIGRATIONS, now - 1_000_000_000);
    assert.equal(again.epoch, 500_006, "whatever the clock does");
    await again.close();
  });
}

test("a file that is no database, or lost its end, is refused by name", async () => {
  await writeFile(path(), "this is a text file, whatever its name says ".repeat(200));
  await assert.rejects(async () => open(), { code: "store-unusable" });
  await rm(path());
  const store = await open();
  for (let n = 0; n < 200; n++)
    await store.view.joinKeys.add({ ...joinKey, id: `k${n}`, secretHash: `${n}`.repeat(30) });
  await store.close();
  await truncate(path(), 8_192);
  await rm(`${path()}-wal`, { force: true });
  await assert.rejects(async () => open(), { code: "store-unusable" });
});

test("nobody but the owner reads the store", async () => {
  await (await open()).close();
  assert.equal((await stat(path())).mode & 0o777, 0o600);
});
