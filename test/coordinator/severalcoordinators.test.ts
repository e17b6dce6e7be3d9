import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { toBase64 } from "../../src/kit/bytes.js";
import type { CoordinatorStatus, DeviceInfo } from "../../src/wire/adminapi.js";
import { TestDevice } from "./bench.js";
import { freePort } from "./freeport.js";
import { startPostgres, type TestPostgres } from "./postgres.js";
import { CoordinatorProcess } from "./process.js";

/** Two coordinators as two processes over one PostgreSQL, and devices of both. */
const LIMIT = { timeout: 120_000 };
let folder: string;
let postgres: TestPostgres;
let database: string;
let a: CoordinatorProcess;
let b: CoordinatorProcess;
const devices: TestDevice[] = [];

before(async () => {
  folder = await mkdtemp(join(tmpdir(), "exn-several-"));
  postgres = await startPostgres();
  database = await postgres.database();
  const { host, port, user } = postgres;
  const store = { kind: "postgres", host, port, user, database, tls: "off" } as const;
  const start = async (name: string) =>
    CoordinatorProcess.start({ folder: join(folder, name), port: await freePort(), store });
  // At once: one of them makes tables and keys, the other finds them.
  [a, b] = await Promise.all([start("a"), start("b")]);
});
after(async () => {
  for (const device of devices) device.stop();
  await Promise.all(devices.map(({ stopped }) => stopped));
  await Promise.all([a?.end(), b?.end()]);
  await postgres.close();
  await rm(folder, { recursive: true, force: true });
});

/** A device that tries the one coordinator first and the other when that one is not there. */
async function device(name: string, first: CoordinatorProcess, key?: string): Promise<TestDevice> {
  const secret = key ?? (await first.key({ role: "device" }));
  const urls = [first, first === a ? b : a].map(({ url }) => url);
  const made = new TestDevice({ port: first.port, publicKey: first.publicKey, urls }, name, secret);
  devices.push(made);
  await made.until(({ map }) => map !== undefined);
  return made;
}
const coordinatorOf = (device: TestDevice): string | undefined => {
  const last = device.states.at(-1);
  return last?.connected === true ? last.url : undefined;
};

test("two that start at once over an empty database have one identity", LIMIT, () => {
  assert.equal(a.publicKey, b.publicKey);
});

test("devices of different coordinators see each other come, change and go", LIMIT, async (t) => {
  const left = await device("left", a);
  // A key made by the one lets in at the other.
  const right = await device("right", b, await a.key({ role: "device" }));
  const joinedAt = performance.now();
  await Promise.all([left.sees("right"), right.sees("left")]);
  const seenMs = performance.now() - joinedAt;
  t.diagnostic(`who joined there is seen here after ${seenMs.toFixed(0)} ms`);
  const [leftIp, rightIp] = [left.map?.self.addresses[0], right.map?.self.addresses[0]];
  assert.notEqual(leftIp, rightIp);

  const saidAt = performance.now();
  right.client.report({ endpoints: ["198.51.100.9:4000"], routes: [], resolvers: [] });
  await left.until(({ map }) => map?.peers.some(({ endpoints }) => endpoints[0] === "198.51.100.9:4000") === true);
  const tookMs = performance.now() - saidAt;
  t.diagnostic(`a report from there is here after ${tookMs.toFixed(0)} ms`);
  const statuses = await Promise.all([a, b].map((one) => one.call("GET", "/status")));
  assert.deepEqual(
    statuses.map((status) => (status as CoordinatorStatus).online),
    [2, 2],
  );
});

test("a call reaches a device that is connected to the other coordinator", LIMIT, async () => {
  const caller = await device("caller", a);
  const called = await device("called", b);
  await Promise.all([caller.sees("called"), called.sees("caller")]);
  const probe = toBase64(Uint8Array.from({ length: 300 }, (_, i) => i % 256));
  caller.client.call(called.publicKey, probe);
  await called.until(({ calls }) => calls.length > 0);
  assert.deepEqual(called.calls, [probe]);
});

test(
  "a device revoked at one coordinator is thrown out of the other, and the receipt counts all peers",
  LIMIT,
  async () => {
    const victim = await device("victim", b);
    const peers = [await device("peer-a", a), await device("peer-b", b)];
    await Promise.all(peers.map((peer) => peer.sees("victim")));
    const online = devices.filter((one) => coordinatorOf(one) !== undefined).length;
    const { told } = (await a.call("POST", "/devices/victim/revoke")) as DeviceInfo;
    assert.equal(told?.peers, online - 1);
    assert.equal(told?.confirmed, online - 1);
    const named = told?.devices?.map(({ name }) => name) ?? [];
    for (const name of ["peer-a", "peer-b"]) assert.ok(named.includes(name), `the receipt names ${name}`);
    assert.equal(await victim.stopped, "refused");
    assert.equal(victim.refusal, "device-revoked");
    for (const peer of peers) assert.ok(peer.map?.peers.every(({ name }) => name !== "victim"));
  },
);

test("with the database gone for a moment, changes go on where they were", LIMIT, async () => {
  const [left, right] = [await device("before-a", a), await device("before-b", b)];
  await left.sees("before-b");
  await postgres.disconnect(database);
  right.client.report({ endpoints: ["198.51.100.77:7"], routes: [], resolvers: [] });
  // A report in the very moment of the break ends its connection: the device comes again and says it in its greeting.
  await left.until(({ map }) => map?.peers.some(({ endpoints }) => endpoints[0] === "198.51.100.77:7") === true);
});

test("when one coordinator is killed, its devices come to the other and everybody sees them", LIMIT, async (t) => {
  const staying = await device("staying", a);
  const moving = await Promise.all(["moving-1", "moving-2", "moving-3"].map((name) => device(name, b)));
  await Promise.all(moving.map(({ map }) => staying.sees(map?.self.name ?? "")));
  const killedAt = performance.now();
  await b.end("SIGKILL");
  await Promise.all(moving.map((one) => one.until((at) => coordinatorOf(at) === a.url)));
  const backMs = performance.now() - killedAt;
  t.diagnostic(`${moving.length} devices were back after ${backMs.toFixed(0)} ms`);
  await Promise.all(moving.map(({ map }) => staying.sees(map?.self.name ?? "")));
  // And the one that was killed comes back into a network that went on without it.
  await b.start();
  const late = await device("late", b);
  await Promise.all([staying.sees("late"), late.sees("staying"), late.sees("moving-1")]);
});

test(
  "a device whose coordinator died and that does not return is offline when the lease has run out",
  LIMIT,
  async () => {
    const watcher = await device("watcher", a);
    const gone = await device("gone", b);
    await watcher.sees("gone");
    gone.stop();
    await b.end("SIGKILL");
    await gone.stopped;
    await watcher.until(({ map }) => map?.peers.find(({ name }) => name === "gone")?.online === false);
  },
);
