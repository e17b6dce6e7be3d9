import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { ControlClient } from "../../src/agent/control.js";
import { Lock } from "../../src/agent/lock.js";
import { utf8 } from "../../src/kit/bytes.js";
import { hash, keyPairOf } from "../../src/kit/crypto.js";
import { type Key, keyOf } from "../../src/kit/key.js";
import { systemClock } from "../../src/sys/clock.js";
import { systemRandom } from "../../src/sys/random.js";
import { openSqlite } from "../../src/sys/sqlite.js";
import { dialWebSocket } from "../../src/sys/websocket.js";
import type { AuditEntry } from "../../src/wire/audit.js";
import {
  type LockKey,
  lockKeyOf,
  lockSecretHash,
  type MapLock,
  signDevice,
  signRecord,
  signStatement,
} from "../../src/wire/lock.js";
import type { NetworkMap } from "../../src/wire/map.js";
import { type Bench, openBench } from "./bench.js";

/** The lock between a real coordinator and devices that judge as agents do. */
const LIMIT = { timeout: 120_000 };
const LOCK = "0123456789abcdef0123456789abcdef";
const SECRET = "00112233445566778899aabbccddeeff";
const WRONG_SECRET = "0".repeat(32);
const lockKey = (name: string): LockKey => lockKeyOf(hash(utf8(name)));

let bench: Bench;
const devices: LockedDevice[] = [];
before(async () => {
  bench = await openBench();
});
after(async () => {
  for (const device of devices) device.stop();
  await Promise.all(devices.map(({ stopped }) => stopped));
  await bench.close();
});

/** A device with a lock key, or an older one without. */
class LockedDevice {
  readonly name: string;
  readonly own: LockKey;
  publicKey: Key = keyOf(keyPairOf(systemRandom(32)).publicKey);
  readonly lock = new Lock({ records: [] }, async () => undefined);
  readonly client: ControlClient;
  readonly stopped: Promise<unknown>;
  told: NetworkMap | undefined;
  /** What it lets into its data plane. */
  map: NetworkMap | undefined;
  readonly #stop = new AbortController();
  readonly #watchers = new Set<() => void>();

  constructor(name: string, secret: string, hasLockKey = true) {
    this.name = name;
    this.own = lockKey(name);
    const machineKey = keyPairOf(systemRandom(32));
    const report = {
      endpoints: [],
      routes: [],
      resolvers: [],
      discoveryKey: keyOf(hash(utf8(`discovery of ${name}`))),
    };
    this.client = new ControlClient(
      { dial: dialWebSocket, clock: systemClock, random: systemRandom },
      {
        get urls() {
          return [`https://127.0.0.1:${bench.coordinator.port}`];
        },
        ...{ coordinatorKey: bench.coordinator.publicKey, machineKey },
        hello: () => {
          const { publicKey, own } = this;
          const statement = signStatement(own, { ...report, publicKey });
          const lock = hasLockKey ? { lock: { key: own.key, statement } } : {};
          return { agentVersion: "test", name, publicKey, joinSecret: secret, report, ...lock };
        },
      },
      {
        onMap: (told) => {
          this.told = told;
          this.map = this.lock.judge(told);
          for (const look of [...this.#watchers]) look();
        },
        onRefused: () => undefined,
        onState: () => undefined,
      },
    );
    this.stopped = this.client.run(this.#stop.signal);
  }

  stop(): void {
    this.#stop.abort();
  }

  /** Fulfilled when these and no others are let in, all of them online. */
  letsIn(...names: string[]): Promise<void> {
    return this.until(
      (map) =>
        map.peers
          .map(({ name }) => name)
          .sort()
          .join() === [...names].sort().join(),
    );
  }

  until(condition: (map: NetworkMap) => boolean): Promise<void> {
    return new Promise((resolve) => {
      const look = (): void => {
        if (this.map === undefined || !condition(this.map)) return;
        this.#watchers.delete(look);
        resolve();
      };
      this.#watchers.add(look);
      look();
    });
  }
}

async function joined(name: string, hasLockKey = true): Promise<LockedDevice> {
  const { secret } = await bench.key({ role: "device" });
  const device = new LockedDevice(name, secret, hasLockKey);
  devices.push(device);
  await device.until(() => true);
  return device;
}

const call = async (method: string, path: string, body?: unknown): Promise<{ status: number; code?: string }> => {
  const { status, body: answer } = await bench.call(method, `/api/v1/lock${path}`, body);
  const { code } = (answer ?? {}) as { code?: string };
  return code === undefined ? { status } : { status, code };
};
const lockNow = async (): Promise<MapLock> => (await bench.call("GET", "/api/v1/lock")).body as MapLock;
const recordOf = (by: LockKey, version: number, ...trusted: LockKey[]): string =>
  signRecord(by, {
    ...{ lock: LOCK, version, secretHash: lockSecretHash(SECRET), shutOut: [] },
    keys: trusted.map(({ key }) => key),
  });
const signed = (by: LockKey, ...who: string[]) =>
  who.map((device) => ({ device, signature: signDevice(by, LOCK, lockKey(device).key) }));

test(
  "a signed device stays in through restarts and new keys, and one written into the coordinator's database does not get in",
  LIMIT,
  async () => {
    const laptop = await joined("laptop");
    const home = await joined("home");
    const old = await joined("old", false);
    await laptop.letsIn("home", "old");
    assert.deepEqual(await lockNow(), { records: [] });
    assert.equal(laptop.told?.lock, undefined);

    // Who is in is signed in the same moment: nobody is out in between.
    const first = recordOf(laptop.own, 1, laptop.own);
    const begun = await call("POST", "", { record: first, signatures: signed(laptop.own, "home") });
    assert.equal(begun.status, 200);
    await laptop.letsIn("home");
    await home.letsIn("laptop");
    assert.ok(home.told?.self.lockSignature !== undefined, "a device is told what has been signed for it");

    // A device that joins now waits for a signature.
    const phone = await joined("phone");
    await laptop.until(() => laptop.told?.peers.some(({ name }) => name === "phone") === true);
    await laptop.letsIn("home");
    assert.equal(phone.lock.standing(phone.own.key), "unsigned");
    assert.equal((await call("POST", "/signatures", { signatures: signed(laptop.own, "phone") })).status, 204);
    await Promise.all([laptop.letsIn("home", "phone"), home.letsIn("laptop", "phone")]);

    // An exit node changes its WireGuard key, and nobody has to sign anything.
    home.publicKey = keyOf(keyPairOf(systemRandom(32)).publicKey);
    home.client.moved();
    await laptop.until(({ peers }) => peers.some(({ publicKey }) => publicKey === home.publicKey));

    // All of it lasts.
    await bench.restart();
    assert.deepEqual(await lockNow(), { records: [first] });
    await Promise.all([laptop.letsIn("home", "phone"), home.letsIn("laptop", "phone"), phone.letsIn("laptop", "home")]);

    // Whoever has the coordinator's database writes into it as they like.
    const db = openSqlite(join(bench.folder, "coordinator.db"));
    const evil = lockKey("attacker");
    const write = (sql: string, ...values: string[]): void => void db.prepare(sql).run(values);
    write(
      "update device set lock_key = ?, lock_signature = ? where name = 'old'",
      evil.key,
      signDevice(evil, LOCK, evil.key),
    );
    write(
      "update setting set value = ? where name = 'device-lock'",
      JSON.stringify({ records: [first, recordOf(evil, 2, laptop.own, evil)] }),
    );
    db.close();
    await bench.restart();
    await laptop.until(({ lock }) => lock?.records.length === 2);
    await laptop.letsIn("home", "phone");
    assert.match(laptop.lock.trouble ?? "", /no device that is trusted here has signed/);
    old.stop();
  },
);

test(
  "the coordinator takes no record that does not follow, and no signature that nobody would take",
  LIMIT,
  async () => {
    await bench.close();
    bench = await openBench();
    const [laptop, phone, thief] = [await joined("laptop"), await joined("phone"), await joined("thief")];
    await joined("old", false);
    for (const { title, path = "", body, expected } of [
      { title: "rubbish", body: { record: "AAAA" }, expected: { status: 422, code: "lock-invalid" } },
      {
        title: "signatures without a lock",
        path: "/signatures",
        body: { signatures: signed(laptop.own, "phone") },
        expected: { status: 409, code: "lock-off" },
      },
      {
        title: "an end without a lock",
        path: "/end",
        body: { secret: SECRET },
        expected: { status: 409, code: "lock-off" },
      },
      {
        title: "a beginning with a wrong signature",
        body: { record: recordOf(laptop.own, 1, laptop.own), signatures: signed(thief.own, "phone") },
        expected: { status: 422, code: "lock-signature-refused" },
      },
    ])
      assert.deepEqual(await call("POST", path, body), expected, title);
    assert.deepEqual(await lockNow(), { records: [] }, "nothing of what was refused is kept");

    const first = recordOf(laptop.own, 1, laptop.own);
    assert.equal((await call("POST", "", { record: first, signatures: signed(laptop.own, "phone") })).status, 200);
    assert.equal((await call("POST", "", { record: first })).status, 200, "the same again is no change");
    for (const { title, path = "", body, expected } of [
      {
        title: "a record of an untrusted device",
        body: { record: recordOf(thief.own, 2, thief.own) },
        expected: { status: 409, code: "lock-changed" },
      },
      {
        title: "the same version with other keys",
        body: { record: recordOf(laptop.own, 1, laptop.own, phone.own) },
        expected: { status: 409, code: "lock-changed" },
      },
      {
        title: "a signature of an untrusted device",
        path: "/signatures",
        body: { signatures: signed(phone.own, "thief") },
        expected: { status: 422, code: "lock-signature-refused" },
      },
      {
        title: "a signature for a device without a lock key",
        path: "/signatures",
        body: { signatures: signed(laptop.own, "old") },
        expected: { status: 409, code: "lock-key-unknown" },
      },
      {
        title: "one good signature and one for nobody",
        path: "/signatures",
        body: { signatures: [...signed(laptop.own, "thief"), ...signed(laptop.own, "nobody")] },
        expected: { status: 404, code: "device-unknown" },
      },
      {
        title: "another secret",
        path: "/end",
        body: { secret: WRONG_SECRET },
        expected: { status: 422, code: "lock-secret-refused" },
      },
    ])
      assert.deepEqual(await call("POST", path, body), expected, title);
    assert.deepEqual(await lockNow(), { records: [first] });
    await laptop.letsIn("phone");

    const second = recordOf(laptop.own, 2, laptop.own, phone.own);
    assert.equal((await call("POST", "", { record: second })).status, 200);
    assert.equal((await call("POST", "/signatures", { signatures: signed(phone.own, "thief") })).status, 204);
    await laptop.letsIn("phone", "thief");
    assert.equal(
      (await call("POST", "", { record: recordOf(laptop.own, 3, laptop.own), signatures: signed(laptop.own, "phone") }))
        .status,
      200,
    );
    await laptop.letsIn("phone");

    assert.equal((await call("POST", "/end", { secret: SECRET })).status, 204);
    await laptop.letsIn("phone", "thief", "old");
    assert.deepEqual(await lockNow(), { records: [], ended: [{ lock: LOCK, secret: SECRET }] });

    const { entries } = (await bench.call("GET", "/api/v1/audit?limit=200")).body as { entries: AuditEntry[] };
    const noted = entries.filter(({ action }) => action.includes("lock")).map(({ action }) => action);
    assert.deepEqual(noted.sort(), [
      ...["device.lock-sign", "device.lock-sign"],
      ...["lock.change", "lock.change", "lock.disable", "lock.enable"],
    ]);
    assert.ok(!JSON.stringify(entries).includes(SECRET));
  },
);
