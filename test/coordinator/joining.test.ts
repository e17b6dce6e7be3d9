import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { DeviceInfo } from "../../src/wire/adminapi.js";
import { type Bench, openBench } from "./bench.js";

const LIMIT = { timeout: 120_000 };
let bench: Bench;
before(async () => {
  bench = await openBench();
});
after(() => bench.close());

test("an exit node and a device join and see each other with addresses, routes and endpoints", LIMIT, async () => {
  const exit = bench.device("home", (await bench.key({ role: "exit-node" })).secret);
  await exit.until(({ map }) => map !== undefined);
  const laptop = bench.device("laptop", (await bench.key({ role: "device" })).secret);
  await laptop.sees("home");
  await exit.sees("laptop");
  assert.deepEqual(exit.map?.self.addresses[0], "100.64.0.1");
  assert.match(exit.map?.self.addresses[1] ?? "", /^fd[0-9a-f:]+::1$/);
  assert.deepEqual(laptop.map?.self.addresses[0], "100.64.0.2");
  const home = laptop.map?.peers[0];
  assert.deepEqual(home?.routes, ["0.0.0.0/0"]);
  assert.deepEqual(home?.endpoints, ["203.0.113.7:51820"]);
  assert.equal(home?.publicKey, exit.publicKey);
  assert.deepEqual(exit.map?.peers[0]?.routes, []);
  assert.deepEqual(laptop.map?.ranges[0], "100.64.0.0/10");
});

test("a report reaches the peers, and a peer that leaves is shown offline", LIMIT, async () => {
  const one = bench.device("one", (await bench.key({ role: "device" })).secret);
  const two = bench.device("two", (await bench.key({ role: "device" })).secret);
  await one.sees("two");
  two.client.report({ endpoints: ["198.51.100.9:4000", "127.0.0.1:5", "junk"], routes: [], resolvers: [] });
  await one.until(({ map }) => map?.peers.find(({ name }) => name === "two")?.endpoints[0] === "198.51.100.9:4000");
  two.stop();
  await one.until(({ map }) => map?.peers.find(({ name }) => name === "two")?.online === false);
});

test("a single-use key lets one machine in, the same machine again, and no other", LIMIT, async () => {
  const { secret } = await bench.key({ role: "device" });
  const first = await bench.device("single", secret).until(({ deviceId }) => deviceId !== undefined);
  first.stop();
  await first.stopped;
  const again = bench.device("single", secret, first.machineKey);
  await again.until(({ deviceId }) => deviceId !== undefined);
  assert.equal(again.deviceId, first.deviceId);
  const other = bench.device("other", secret);
  assert.equal(await other.stopped, "refused");
  assert.equal(other.refusal, "join-key-used");
});

test("a reusable key lets several in, and a second device of a name becomes name-2", LIMIT, async () => {
  const { secret } = await bench.key({ role: "device", reusable: true });
  const first = await bench.device("phone", secret).until(({ map }) => map !== undefined);
  const second = await bench.device("phone", secret).until(({ map }) => map !== undefined);
  assert.equal(first.map?.self.name, "phone");
  assert.equal(second.map?.self.name, "phone-2");
});

test(
  "no key, an unknown key, a revoked key, an expired key and a taken exit name are refused for good",
  LIMIT,
  async () => {
    const revoked = await bench.key({ role: "device" });
    assert.equal((await bench.call("DELETE", `/api/v1/keys/${revoked.id}`)).status, 204);
    const brief = await bench.key({ role: "device", lifetimeMs: 1_000 });
    const taken = await bench.key({ role: "exit-node", name: "home" });
    const cases = [
      { device: bench.device("nobody"), code: "join-key-required" },
      { device: bench.device("guesser", "x".repeat(43)), code: "join-key-unknown" },
      { device: bench.device("late", revoked.secret), code: "join-key-unknown" },
      { device: bench.device("home", taken.secret), code: "name-taken" },
    ];
    for (const { device, code } of cases) {
      assert.equal(await device.stopped, "refused");
      assert.equal(device.refusal, code);
    }
    bench.advance(1_000);
    const late = bench.device("later", brief.secret);
    assert.equal(await late.stopped, "refused");
    assert.equal(late.refusal, "join-key-expired");
  },
);

test("a revoked device is told, its peers confirm, and it stays out until it is removed", LIMIT, async () => {
  const thief = await bench.device("thief", (await bench.key({ role: "device" })).secret).until((d) => !!d.map);
  const friend = await bench.device("friend", (await bench.key({ role: "device" })).secret).sees("thief");
  const startedAt = performance.now();
  const answer = await bench.call("POST", "/api/v1/devices/thief/revoke");
  const tookMs = performance.now() - startedAt;
  assert.equal(
    friend.map?.peers.some(({ name }) => name === "thief"),
    false,
  );
  const info = answer.body as DeviceInfo;
  assert.equal(info.told?.confirmed, info.told?.peers);
  assert.equal(info.online, false);
  console.log(`revocation confirmed by ${info.told?.peers} peers in ${tookMs.toFixed(1)} ms`);
  assert.equal(await thief.stopped, "refused");
  assert.equal(thief.refusal, "device-revoked");
  const back = bench.device("thief", (await bench.key({ role: "device" })).secret, thief.machineKey);
  assert.equal(await back.stopped, "refused");
  assert.equal(back.refusal, "device-revoked");
  assert.equal((await bench.call("DELETE", "/api/v1/devices/thief")).status, 204);
  const anew = bench.device("thief", (await bench.key({ role: "device" })).secret, thief.machineKey);
  await anew.until(({ map }) => map?.self.name === "thief");
});

test(
  "devices outlive a restart of the coordinator, and come back by themselves with higher map numbers",
  LIMIT,
  async () => {
    const steady = await bench.device("steady", (await bench.key({ role: "device" })).secret).until((d) => !!d.map);
    const { self, seq = 0 } = steady.map ?? {};
    await bench.restart();
    await steady.until(({ map }) => (map?.seq ?? 0) > seq + 2 ** 31);
    assert.deepEqual(steady.map?.self, self);
    assert.ok(steady.states.some((state) => !state.connected));
  },
);
