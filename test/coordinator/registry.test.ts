import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { type Dialect, PostgresDialect, SqliteDialect } from "kysely";
import type { Actor } from "../../src/coordinator/actor.js";
import { ChangeFeed } from "../../src/coordinator/changefeed.js";
import type { Device } from "../../src/coordinator/device.js";
import type { Hello } from "../../src/coordinator/entrance.js";
import { type DeviceChange, Registry } from "../../src/coordinator/registry.js";
import { CHANGES_KEPT } from "../../src/coordinator/store/changes.js";
import { Store } from "../../src/coordinator/store/store.js";
import { utf8 } from "../../src/kit/bytes.js";
import { hash } from "../../src/kit/crypto.js";
import type { Cidr } from "../../src/kit/ip.js";
import { type Key, keyOf } from "../../src/kit/key.js";
import { systemClock } from "../../src/sys/clock.js";
import { openPostgres } from "../../src/sys/postgres.js";
import { systemRandom } from "../../src/sys/random.js";
import { openSqlite } from "../../src/sys/sqlite.js";
import { startPostgres, type TestPostgres } from "./postgres.js";

const range = "100.64.0.0/10" as Cidr;
const ADMIN: Actor = { name: "admin-token", remote: "192.0.2.1" };
const LIFETIME_MS = 60_000;
let postgres: TestPostgres;
let folder: string;
const stores: Store[] = [];
before(async () => {
  postgres = await startPostgres();
  folder = await mkdtemp(join(tmpdir(), "exn-registry-"));
});
after(async () => {
  await Promise.all(stores.map((store) => store.close()));
  await postgres.close();
  await rm(folder, { recursive: true, force: true });
});

type Opened = { readonly registry: Registry; readonly store: Store; readonly heard: DeviceChange[] };
/** One coordinator's registry. Nobody wakes it: it hears of others when it decides, or is asked to. */
async function open(dialect: Dialect): Promise<Opened> {
  const store = await Store.open(dialect, "fd01:203:405::/48" as Cidr);
  stores.push(store);
  const feed = await ChangeFeed.open(store);
  const registry = await Registry.open({ store, feed, range, random: systemRandom, clock: systemClock });
  const heard: DeviceChange[] = [];
  registry.watch((changes) => heard.push(...changes));
  return { registry, store, heard };
}
const shared = (database: string): Dialect => {
  const { host, port, user } = postgres;
  return new PostgresDialect({ pool: openPostgres({ host, port, user, database, tls: { kind: "off" } }).pool });
};
const keyFor = (word: string): Key => keyOf(hash(utf8(word)));
const hello = (name: string, joinSecret?: string): Hello => ({
  type: "hello",
  version: 1,
  agentVersion: "t",
  name,
  publicKey: keyFor(`wireguard ${name}`),
  report: { endpoints: [], routes: [], resolvers: [] },
  ...(joinSecret === undefined ? {} : { joinSecret }),
});
const aKey = async ({ registry }: Opened, reusable = false): Promise<string> =>
  (await registry.createKey({ role: "device", lifetimeMs: LIFETIME_MS, reusable }, ADMIN)).secret;
async function joined(at: Opened, machine: string, secret: string, name = machine) {
  const came = await at.registry.hello(keyFor(`machine ${machine}`), hello(name, secret), "198.51.100.1");
  return "device" in came ? came.device : assert.fail(`refused: ${came.refusal}`);
}

for (const [engine, dialect] of [
  ["sqlite", async () => new SqliteDialect({ database: openSqlite(join(folder, "one.db")) })],
  ["postgres", async () => shared(await postgres.database())],
] as const)
  test(`${engine}: what is changed is in memory and in the store, and a change that fails is in neither`, async () => {
    const one = await open(await dialect());
    const device = await joined(one, "laptop", await aKey(one));
    assert.deepEqual(one.registry.devices.get(device.id), await one.store.view.devices.find(device.id));
    const failing = one.registry.change(async ({ put }) => {
      await put({ ...device, name: "renamed" });
      throw new Error("thought better of it");
    });
    await assert.rejects(failing, /thought better/);
    assert.equal(one.registry.devices.get(device.id)?.name, "laptop");
    assert.equal((await one.store.view.devices.find(device.id))?.name, "laptop");
    await one.registry.revoke("laptop", ADMIN);
    const first = one.registry.find("laptop").revokedAtMs;
    await one.registry.revoke("laptop", ADMIN);
    assert.equal((await one.store.view.devices.find(device.id))?.revokedAtMs, first);
    await one.registry.remove(device.id, ADMIN);
    assert.deepEqual([one.registry.devices.size, await one.store.view.devices.all()], [0, []]);
  });

for (const [engine, dialect] of [
  ["sqlite", async () => new SqliteDialect({ database: openSqlite(join(folder, "storm.db")) })],
  ["postgres", async () => shared(await postgres.database())],
] as const)
  test(`${engine}: of machines that join in one transaction each has its own address and name, and a refused one harms none`, async () => {
    const one = await open(await dialect());
    const [reusable, single] = [await aKey(one, true), await aKey(one)];
    const secrets = [...Array.from({ length: 20 }, () => reusable), single, single, "no key"];
    void one.registry.settled(); // they wait for it together
    const came = await Promise.all(
      secrets.map((secret, n) =>
        one.registry.hello(keyFor(`m${n}`), { ...hello("phone", secret), publicKey: keyFor(`w${n}`) }, ""),
      ),
    );
    assert.deepEqual(
      came.flatMap((answer) => ("refusal" in answer ? [answer.refusal] : [])),
      ["join-key-used", "join-key-unknown"],
    );
    const devices = [...one.registry.devices.values()];
    assert.equal(devices.length, 21);
    for (const value of [new Set(devices.map(({ ipv4 }) => ipv4)), new Set(devices.map(({ name }) => name))])
      assert.equal(value.size, 21);
    const byId = (all: readonly Device[]) => [...all].sort((left, right) => (left.id < right.id ? -1 : 1));
    assert.deepEqual(byId(await one.store.view.devices.all()), byId(devices));
    const joins = (await one.store.view.audit.list({ limit: 100 })).filter(({ action }) => action === "device.join");
    assert.deepEqual(joins.map(({ target }) => target).sort(), devices.map(({ id }) => id).sort());
  });

test("joins whose transaction does not last are refused to all of them, and the next ones find memory as it was", async () => {
  let full = false;
  const real = openSqlite(join(folder, "full.db"));
  const database = {
    ...real,
    prepare(sql: string) {
      const statement = real.prepare(sql);
      if (sql !== "commit" || !full) return statement;
      full = false;
      return { ...statement, run: () => assert.fail("database or disk is full") };
    },
  };
  const one = await open(new SqliteDialect({ database }));
  const secret = await aKey(one, true);
  const come = async (): Promise<string[]> => {
    // They wait for it together.
    void one.registry.settled();
    const all = ["a", "b", "c"].map((name) => joined(one, name, secret));
    return (await Promise.allSettled(all)).map(({ status }) => status);
  };
  full = true;
  assert.deepEqual(await come(), ["rejected", "rejected", "rejected"]);
  assert.deepEqual([one.registry.devices.size, await one.store.view.devices.all()], [0, []]);
  assert.deepEqual(await come(), ["fulfilled", "fulfilled", "fulfilled"]);
  const addresses = [...one.registry.devices.values()].map(({ ipv4 }) => ipv4).sort();
  assert.deepEqual(addresses, ["100.64.0.1", "100.64.0.2", "100.64.0.3"]);
});

test("a report to one coordinator does not undo a revocation at the other", async () => {
  const database = await postgres.database();
  const [a, b] = [await open(shared(database)), await open(shared(database))];
  const device = await joined(a, "laptop", await aKey(a));
  await b.registry.catchUp();
  await a.registry.revoke("laptop", ADMIN);
  assert.equal(b.registry.find("laptop").revokedAtMs, undefined, "nobody has told it yet");
  assert.equal(await b.registry.report(device.id, { endpoints: ["203.0.113.1:1"], routes: [], resolvers: [] }), false);
  const kept = await a.store.view.devices.find(device.id);
  assert.notEqual(kept?.revokedAtMs, undefined);
  assert.deepEqual(kept?.report.endpoints, []);
  assert.deepEqual(
    b.heard.map(({ before, after }) => [before?.name, after?.revokedAtMs !== undefined]),
    [
      [undefined, false],
      ["laptop", true],
    ],
  );
  assert.deepEqual(a.heard, [], "one's own changes are no news");
});

test("who joins at two coordinators at once gets different addresses and names", async () => {
  const database = await postgres.database();
  const [a, b] = [await open(shared(database)), await open(shared(database))];
  const secret = await aKey(a, true);
  const devices = await Promise.all(
    Array.from({ length: 12 }, (_, n) =>
      a.registry
        .hello(keyFor(`m${n}`), { ...hello("phone", secret), publicKey: keyFor(`w${n}`) }, "")
        .then(() => b.registry.hello(keyFor(`n${n}`), { ...hello("phone", secret), publicKey: keyFor(`v${n}`) }, "")),
    ),
  );
  assert.ok(devices.every((came) => "device" in came));
  await Promise.all([a, b].map(({ registry }) => registry.catchUp()));
  const values = (at: Opened) => [...at.registry.devices.values()].map(({ name, ipv4 }) => `${name} ${ipv4}`).sort();
  assert.deepEqual(values(a), values(b));
  for (const part of [0, 1]) assert.equal(new Set(values(a).map((one) => one.split(" ")[part])).size, 24);
});

test("a single-use key lets one machine in, whichever coordinator is asked", async () => {
  const database = await postgres.database();
  const [a, b] = [await open(shared(database)), await open(shared(database))];
  const secret = await aKey(a);
  const came = await Promise.all(
    [a, b].map(({ registry }, n) => registry.hello(keyFor(`machine ${n}`), hello(`one-${n}x`, secret), "")),
  );
  assert.deepEqual(came.map((one) => ("device" in one ? "in" : one.refusal)).sort(), ["in", "join-key-used"]);
});

test("a coordinator that missed more changes than are kept reads everything anew", async () => {
  const database = await postgres.database();
  const [a, b] = [await open(shared(database)), await open(shared(database))];
  await joined(a, "kept", await aKey(a));
  await joined(a, "removed", await aKey(a));
  await b.registry.catchUp();
  await a.registry.remove(a.registry.find("removed").id, ADMIN);
  await joined(a, "new", await aKey(a));
  await postgres.run(
    database,
    `insert into change (seq, kind, id, at_ms)
       select (select max(seq) from change) + n, 'setting', 'nothing', 0 from generate_series(1, ${CHANGES_KEPT}) n`,
  );
  await a.store.view.changes.prune();
  await b.registry.catchUp();
  assert.deepEqual([...b.registry.devices.values()].map(({ name }) => name).sort(), ["kept", "new"]);
});
