import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { Device } from "../../src/coordinator/device.js";
import { withRotation } from "../../src/coordinator/rotation.js";
import type { DeviceInfo, KeyRequest, SettingsRequest } from "../../src/wire/adminapi.js";
import type { Bench, TestDevice } from "./bench.js";
import { overBothStores } from "./bothstores.js";
import { Member } from "./member.js";

const LIMIT = { timeout: 120_000 };
const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

overBothStores(({ open }) => {
  let bench: Bench;
  before(async () => {
    bench = await open();
  });
  after(() => bench.close());

  const join = async (name: string, wanted: Partial<KeyRequest> = {}): Promise<TestDevice> =>
    bench.device(name, (await bench.key({ role: "device", ...wanted })).secret).until(({ map }) => map !== undefined);
  const decide = async (settings: SettingsRequest): Promise<number> =>
    (await bench.call("PATCH", "/api/v1/settings", settings)).status;
  const infoOf = async (name: string): Promise<DeviceInfo> => {
    const { devices } = (await bench.call("GET", "/api/v1/devices")).body as { devices: DeviceInfo[] };
    return devices.find((device) => device.name === name) ?? assert.fail(`there is no ${name}`);
  };
  /** The machine comes with another WireGuard key, as its agent does when the time has come. */
  async function rotated(device: TestDevice, name: string): Promise<TestDevice> {
    device.stop();
    await device.stopped;
    return bench
      .device(name, undefined, device.machineKey)
      .until(({ map }) => map !== undefined && map.self.waiting === undefined);
  }

  const half = (): Uint8Array => Uint8Array.of(128, 0);
  const timesOf = (
    role: Device["role"],
    pace: { keyRotationMs: number; exitKeyLifetimeMs: number },
    random: () => Uint8Array,
  ) => {
    const { rotateAtMs, keyExpiresAtMs } = withRotation({ role, keyExpiresAtMs: 7 } as Device, pace, random, 0);
    return { rotateAtMs, keyExpiresAtMs };
  };

  test("keys change in the last quarter of their time, and an exit node's with half of its life to go", () => {
    const pace = { keyRotationMs: 1_000, exitKeyLifetimeMs: 0 };
    const none = (): Uint8Array => Uint8Array.of(0, 0);
    const all = (): Uint8Array => Uint8Array.of(255, 255);
    assert.deepEqual(
      [none, half, all].map((random) => timesOf("device", pace, random).rotateAtMs),
      [1_000, 875, 750],
    );
    const mortal = { keyRotationMs: 1_000, exitKeyLifetimeMs: 800 };
    assert.deepEqual(timesOf("exit-node", mortal, half), { rotateAtMs: 350, keyExpiresAtMs: 800 });
    assert.deepEqual(timesOf("device", mortal, half), { rotateAtMs: 875, keyExpiresAtMs: 7 });
    const never = { keyRotationMs: 0, exitKeyLifetimeMs: 0 };
    assert.deepEqual(timesOf("exit-node", never, half), { rotateAtMs: undefined, keyExpiresAtMs: undefined });
  });

  test("a device is told when to change its key, and after a change it is told the next time", LIMIT, async () => {
    const before = Date.now();
    const device = await join("steady");
    const first = device.map?.self.rotateAtMs ?? 0;
    assert.ok(first >= before + 67 * DAY_MS && first <= Date.now() + 90 * DAY_MS, String(first - before));
    bench.advance(80 * DAY_MS);
    const again = await rotated(device, "steady");
    assert.ok((again.map?.self.rotateAtMs ?? 0) >= before + 147 * DAY_MS);
    assert.equal((await infoOf("steady")).publicKey, again.publicKey);
    const same = again.map?.self.rotateAtMs;
    await bench.restart();
    await again.until(({ states }) => states.filter(({ connected }) => connected).length > 1);
    assert.equal((await infoOf("steady")).rotateAtMs, same, "a device that comes back with its key keeps its time");
  });

  test(
    "an exit node's key that has ended is gone for its peers, and the exit node is back with another one by itself",
    LIMIT,
    async () => {
      const friend = await join("friend");
      const exit = await join("home", { role: "exit-node" });
      assert.equal(exit.map?.self.keyExpiresAtMs, undefined);
      assert.equal(await decide({ exitKeyLifetimeMs: 2 * HOUR_MS }), 200);
      await exit.until(({ map }) => map?.self.keyExpiresAtMs !== undefined);
      const { keyExpiresAtMs = 0, rotateAtMs = 0 } = exit.map?.self ?? {};
      assert.ok(keyExpiresAtMs - rotateAtMs >= HOUR_MS, "half of its time is left when it is to begin");
      await friend.sees("home");
      bench.advance(3 * HOUR_MS);
      await friend.until(({ map }) => map?.peers.every(({ name }) => name !== "home") === true);
      assert.equal((await infoOf("home")).waiting, "key-expired");
      const back = await rotated(exit, "home");
      await friend.sees("home");
      assert.equal(friend.map?.peers.find(({ name }) => name === "home")?.publicKey, back.publicKey);
      assert.equal(await decide({ exitKeyLifetimeMs: 0 }), 200);
      await back.until(({ map }) => map?.self.keyExpiresAtMs === undefined);
    },
  );

  test("an exit node whose agent changes no keys keeps the one it has for ever", LIMIT, async () => {
    assert.equal(await decide({ exitKeyLifetimeMs: HOUR_MS }), 200);
    const device = await join("friend-of-old");
    const old = await Member.join(bench, "old", "exit-node");
    assert.deepEqual([old.map?.self.rotateAtMs, old.map?.self.keyExpiresAtMs], [undefined, undefined]);
    bench.advance(2 * HOUR_MS);
    await device.sees("old");
    await old.leave();
    await decide({ exitKeyLifetimeMs: 0 });
  });

  test("a person's device that changes its key has to be signed in again no later for it", LIMIT, async () => {
    const { id } = (await bench.call("POST", "/api/v1/users", { login: "anna" })).body as { id: string };
    const laptop = await join("laptop", { user: id });
    const { keyExpiresAtMs } = laptop.map?.self ?? {};
    assert.notEqual(keyExpiresAtMs, undefined);
    bench.advance(80 * DAY_MS);
    const again = await rotated(laptop, "laptop");
    assert.equal(again.map?.self.keyExpiresAtMs, keyExpiresAtMs);
  });

  test("how often keys change holds at once for who is in; never is possible, every minute is not", LIMIT, async () => {
    const device = await join("paced");
    assert.equal(await decide({ keyRotationMs: 60_000 }), 400);
    assert.equal(await decide({ keyRotationMs: DAY_MS }), 200);
    const soon = (await infoOf("paced")).createdAtMs + DAY_MS + HOUR_MS;
    await device.until(({ map }) => (map?.self.rotateAtMs ?? Infinity) < soon);
    assert.equal(await decide({ keyRotationMs: 0 }), 200);
    await device.until(({ map }) => map !== undefined && map.self.rotateAtMs === undefined);
  });
});
