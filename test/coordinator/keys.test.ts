import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Reach } from "../../src/coordinator/api/reach.js";
import type { User } from "../../src/coordinator/identity/user.js";
import { EPHEMERAL_KEPT_MS, endsWithin, isForgotten } from "../../src/coordinator/upkeep.js";
import type { DeviceInfo, KeyRequest, NetworkSettings } from "../../src/wire/adminapi.js";
import { ADMIN_TOKEN, type Bench, openBench, type TestDevice } from "./bench.js";

const LIMIT = { timeout: 120_000 };
let bench: Bench;
before(async () => {
  bench = await openBench();
});
after(() => bench.close());

const join = async (name: string, wanted: Partial<KeyRequest> = {}): Promise<TestDevice> =>
  bench.device(name, (await bench.key({ role: "device", ...wanted })).secret).until(({ map }) => map !== undefined);
const infoOf = async (name: string): Promise<DeviceInfo> => {
  const { devices } = (await bench.call("GET", "/api/v1/devices")).body as { devices: DeviceInfo[] };
  return devices.find((device) => device.name === name) ?? assert.fail(`there is no ${name}`);
};
const peersOf = (device: TestDevice): string[] => (device.map?.peers ?? []).map(({ name }) => name);

test("a key's tags, and that its devices are ephemeral, become the device's", LIMIT, async () => {
  const device = await join("tagged", { tags: ["server", "backup"], ephemeral: true });
  const { tags, ephemeral } = await infoOf("tagged");
  assert.deepEqual({ tags, ephemeral }, { tags: ["server", "backup"], ephemeral: true });
  assert.deepEqual(device.map?.self.tags, ["server", "backup"]);
});

test(
  "a device that is not preapproved is connected, knows nobody, and has its peers at once when approved",
  LIMIT,
  async () => {
    const friend = await join("friend");
    const waiter = await join("waiter", { preapproved: false });
    assert.equal(waiter.map?.self.waiting, "approval");
    assert.deepEqual(peersOf(waiter), []);
    assert.ok(!peersOf(friend).includes("waiter"));
    assert.equal((await infoOf("waiter")).waiting, "approval");
    const startedAt = performance.now();
    assert.equal((await bench.call("POST", "/api/v1/devices/waiter/approve")).status, 200);
    await waiter.sees("friend");
    await friend.sees("waiter");
    await waiter.until(({ map }) => map?.self.waiting === undefined);
    console.log(`approved and known on both sides after ${(performance.now() - startedAt).toFixed(1)} ms`);
  },
);

test("where approval is required, a device's key lets it wait, an exit node's lets it in", LIMIT, async () => {
  const settings = (await bench.call("PATCH", "/api/v1/settings", { approvalRequired: true })).body as NetworkSettings;
  assert.equal(settings.approvalRequired, true);
  const device = await join("newcomer");
  const exit = await join("cabin", { role: "exit-node" });
  const trusted = await join("trusted", { preapproved: true });
  assert.deepEqual(
    [device, exit, trusted].map(({ map }) => map?.self.waiting),
    ["approval", undefined, undefined],
  );
  await bench.call("PATCH", "/api/v1/settings", { approvalRequired: false });
});

test("an expired device is dropped by its peers, says so, and a new join key on it renews it", LIMIT, async () => {
  const friend = await join("steady");
  const lost = await join("lost");
  await friend.sees("lost");
  assert.equal((await bench.call("PATCH", "/api/v1/devices/lost", { key: "expires-now" })).status, 200);
  await friend.until((device) => !peersOf(device).includes("lost"));
  await lost.until(({ map }) => map?.self.waiting === "key-expired" && map.peers.length === 0);
  lost.stop();
  await lost.stopped;
  const back = bench.device("lost", (await bench.key({ role: "device" })).secret, lost.machineKey);
  await back.sees("steady");
  assert.equal(back.deviceId, lost.deviceId);
});

test(
  "a key that ends by itself ends for the peers within seconds of its moment, without anybody asking",
  LIMIT,
  async () => {
    const friend = await join("witness");
    await join("brief");
    await friend.sees("brief");
    // A moment that lies ahead: the end is set now, and the clock is put back before it.
    bench.advance(3_600_000);
    await bench.call("PATCH", "/api/v1/devices/brief", { key: "expires-now" });
    await friend.until((device) => !peersOf(device).includes("brief"));
    bench.advance(-3_600_000);
    await friend.sees("brief");
    bench.advance(3_600_000);
    await friend.until((device) => !peersOf(device).includes("brief"));
    bench.advance(-3_600_000);
    assert.equal((await bench.call("PATCH", "/api/v1/devices/brief", { key: "never-expires" })).status, 200);
    await friend.sees("brief");
  },
);

test("an exit node's key cannot be ended: it would lock everybody out", LIMIT, async () => {
  await join("home", { role: "exit-node" });
  const { status, body } = await bench.call("PATCH", "/api/v1/devices/home", { key: "expires-now" });
  assert.equal(status, 409);
  assert.equal((body as { code: string }).code, "device-never-expires");
});

test(
  "a device is renamed and tagged for all, a taken name is refused and nothing of that request is done",
  LIMIT,
  async () => {
    await join("first");
    const second = await join("second");
    assert.equal((await bench.call("PATCH", "/api/v1/devices/second", { name: "first", tags: ["x"] })).status, 409);
    assert.deepEqual((await infoOf("second")).tags, []);
    assert.equal((await bench.call("PATCH", "/api/v1/devices/second", { name: "third", tags: ["x"] })).status, 200);
    await second.until(({ map }) => map?.self.name === "third" && map.self.tags?.[0] === "x");
  },
);

test(
  "an API token does what its scopes say, until it is revoked or expires, and grants no more than it has",
  LIMIT,
  async () => {
    const make = async (scopes: string[], token = ADMIN_TOKEN, lifetimeMs = 60_000) =>
      bench.call("POST", "/api/v1/tokens", { scopes, lifetimeMs }, token);
    const { id, token } = (await make(["devices:read", "tokens:write"])).body as { id: string; token: string };
    assert.equal((await bench.call("GET", "/api/v1/devices", undefined, token)).status, 200);
    assert.equal((await bench.call("GET", "/api/v1/keys", undefined, token)).status, 403);
    assert.equal((await make(["keys:write"], token)).status, 403);
    assert.equal((await make(["devices:read"], token)).status, 201);
    const wrong = `${token.slice(0, -1)}${token.endsWith("A") ? "B" : "A"}`;
    assert.equal((await bench.call("GET", "/api/v1/devices", undefined, wrong)).status, 401);
    const listed = JSON.stringify((await bench.call("GET", "/api/v1/tokens")).body);
    assert.ok(listed.includes(id) && !listed.includes(token.slice(-43)));
    assert.equal((await bench.call("DELETE", `/api/v1/tokens/${id}`)).status, 204);
    assert.equal((await bench.call("GET", "/api/v1/devices", undefined, token)).status, 401);
    const brief = (await make(["devices:read"], ADMIN_TOKEN, 1_000)).body as { token: string };
    bench.advance(1_000);
    assert.equal((await bench.call("GET", "/api/v1/devices", undefined, brief.token)).status, 401);
  },
);

test("an ephemeral device is forgotten five minutes after it left, another one never", () => {
  const left = { ephemeral: true, lastSeenAtMs: 1_000, createdAtMs: 0 } as Parameters<typeof isForgotten>[0];
  assert.equal(isForgotten(left, 1_000 + EPHEMERAL_KEPT_MS - 1), false);
  assert.equal(isForgotten(left, 1_000 + EPHEMERAL_KEPT_MS), true);
  assert.equal(isForgotten({ ...left, ephemeral: false }, 1e12), false);
  const ending = { ...left, keyExpiresAtMs: 5_000 };
  assert.deepEqual(
    [endsWithin(ending, 4_000, 4_999), endsWithin(ending, 4_999, 5_000), endsWithin(ending, 5_000, 9_000)],
    [false, true, false],
  );
});

test("a member reaches what is theirs and nothing else, an administrator and a machine's token everything", () => {
  const users = new Map<string, User>();
  for (const role of ["member", "admin"] as const)
    users.set(role, { id: role, login: role, displayName: role, role, createdAtMs: 0 });
  const reach = new Reach({ users, find: () => assert.fail("nobody is named") });
  const by = (userId?: string) => ({
    name: "x",
    remote: "",
    may: () => true,
    ...(userId === undefined ? {} : { userId }),
  });
  const reached = (userId?: string) => ["member", "admin", undefined].map((owner) => reach.has(by(userId), owner));
  assert.deepEqual(reached("member"), [true, false, false]);
  assert.deepEqual(reached("admin"), [true, true, true]);
  assert.deepEqual(reached(undefined), [true, true, true]);
  assert.deepEqual(reached("somebody who was removed"), [false, false, false]);
  assert.throws(() => reach.refuseConfined(by("member"), "tagging"), /is for administrators/);
});
