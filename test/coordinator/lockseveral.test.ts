import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { utf8 } from "../../src/kit/bytes.js";
import { hash } from "../../src/kit/crypto.js";
import { lockKeyOf, lockSecretHash, mapLock, signRecord } from "../../src/wire/lock.js";
import { TestDevice } from "./bench.js";
import { freePort } from "./freeport.js";
import { startPostgres, type TestPostgres } from "./postgres.js";
import { CoordinatorProcess } from "./process.js";

/** The device lock over two coordinators of one PostgreSQL. */
const LIMIT = { timeout: 120_000 };
const LOCK = "0123456789abcdef0123456789abcdef";
const SECRET = "00112233445566778899aabbccddeeff";
let folder: string;
let postgres: TestPostgres;
const coordinators: CoordinatorProcess[] = [];
let device: TestDevice | undefined;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), "exn-lk-several-"));
  postgres = await startPostgres();
  const { host, port, user } = postgres;
  const store = { kind: "postgres", host, port, user, database: await postgres.database(), tls: "off" } as const;
  for (const name of ["a", "b"])
    coordinators.push(await CoordinatorProcess.start({ folder: join(folder, name), port: await freePort(), store }));
});
after(async () => {
  device?.stop();
  await device?.stopped;
  await Promise.all(coordinators.map((one) => one.end()));
  await postgres?.close();
  await rm(folder, { recursive: true, force: true });
});

test(
  "a lock that one coordinator gets reaches the other's devices, and both refuse what does not follow",
  LIMIT,
  async () => {
    const [a, b] = coordinators;
    if (a === undefined || b === undefined) assert.fail();
    device = new TestDevice(b, "laptop", await b.key({ role: "device" }));
    await device.until(({ map }) => map !== undefined);
    const own = lockKeyOf(hash(utf8("laptop")));
    const recordOf = (version: number): string =>
      signRecord(own, { lock: LOCK, version, secretHash: lockSecretHash(SECRET), keys: [own.key], shutOut: [] });
    await a.call("POST", "/lock", { record: recordOf(1) });
    await device.until(({ map }) => map?.lock?.records.length === 1);
    await b.call("POST", "/lock", { record: recordOf(3) });
    await assert.rejects(a.call("POST", "/lock", { record: recordOf(2) }));
    assert.deepEqual(mapLock.parse(await a.call("GET", "/lock")).records, [recordOf(1), recordOf(3)]);
    await a.call("POST", "/lock/end", { secret: SECRET });
    await device.until(({ map }) => map?.lock?.records.length === 0 && map.lock.ended?.length === 1);
  },
);
