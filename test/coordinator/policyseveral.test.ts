import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { TestDevice } from "./bench.js";
import { startPostgres, type TestPostgres } from "./postgres.js";
import { CoordinatorProcess, freePort } from "./process.js";

/** Two coordinators over one PostgreSQL, and a device at each. */
const LIMIT = { timeout: 60_000 };
let folder: string;
let postgres: TestPostgres;
let coordinators: CoordinatorProcess[] = [];
let devices: TestDevice[] = [];

before(async () => {
  folder = await mkdtemp(join(tmpdir(), "exn-po-several-"));
  postgres = await startPostgres();
  const { host, port, user } = postgres;
  const store = { kind: "postgres", host, port, user, database: await postgres.database(), tls: "off" } as const;
  const start = async (name: string) =>
    CoordinatorProcess.start({ folder: join(folder, name), port: await freePort(), store });
  coordinators = await Promise.all([start("a"), start("b")]);
  devices = await Promise.all(
    coordinators.map(async (at, i) => new TestDevice(at, `device${i}`, await at.key({ role: "device" }))),
  );
});
after(async () => {
  for (const device of devices) device.stop();
  await Promise.all(devices.map(({ stopped }) => stopped));
  await Promise.all(coordinators.map((one) => one.end()));
  await postgres?.close();
  await rm(folder, { recursive: true, force: true });
});

test("a policy that is set at one coordinator reaches the other's devices within 500 ms", LIMIT, async (t) => {
  const [a, b] = coordinators;
  const [left, right] = devices;
  if (a === undefined || b === undefined || left === undefined || right === undefined) assert.fail();
  await Promise.all([left.sees("device1"), right.sees("device0")]);
  const startedAt = performance.now();
  await a.call("PUT", "/policy", { text: "grants: []" });
  await right.until(({ map }) => map?.peers.length === 0 && map.filter?.length === 0);
  const tookMs = performance.now() - startedAt;
  t.diagnostic(`it took ${tookMs.toFixed(0)} ms`);
  assert.ok(tookMs < 500, `${tookMs} ms`);
  await b.call("POST", "/policy/rollback", { to: 1 });
  const saved = await b.call("PUT", "/policy", {
    text: "grants: [{ src: ['*'], dst: ['*'] }]",
    replaces: 2,
  });
  assert.notEqual(saved, undefined);
  await left.sees("device1");
});
