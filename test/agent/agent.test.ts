import assert from "node:assert/strict";
import { test } from "node:test";
import { LOOK_INTERVAL_MS } from "../../src/agent/agent.js";
import { ENDPOINT_WINDOW_MS } from "../../src/agent/endpoints.js";
import { MINUTE, SECOND } from "../../src/kit/time.js";
import { encodeJoinKey } from "../../src/wire/joinkey.js";
import { HOME, MAP, PHONE, World } from "./agentworld.js";
import { settled } from "./labclock.js";

test("with the coordinator away, a restarted agent works from the map and the choice it kept", async () => {
  const world = new World();
  const first = await world.start();
  await first.use("home");
  await first.stop();
  world.coordinator.away = true;

  const second = await world.start();
  assert.deepEqual(world.peers(), ["home", "phone"]);
  assert.equal(world.ready, 2);
  const { coordinator, exit, addresses } = await second.status();
  assert.equal(coordinator.connected, false);
  assert.equal(coordinator.mapSeq, 7);
  assert.match(coordinator.reason ?? "", /nothing listens there/);
  assert.deepEqual(exit, { name: "home", ipv4: true, ipv6: true, state: "waiting" });
  assert.deepEqual(addresses, MAP.self.addresses);
  assert.ok(world.machine.routes[4].has("0.0.0.0/0") && world.machine.routes[6].has("::/0"));

  world.coordinator.away = false;
  await world.clock.advance(MINUTE);
  assert.equal((await second.status()).coordinator.connected, true, "it comes back by itself");
  await second.stop();
});

test("a coordinator that goes away takes nothing with it, and what it says when back is done", async () => {
  const world = new World();
  const agent = await world.start();
  const before = world.machine.traces();
  world.coordinator.leave();
  await world.clock.advance(10 * MINUTE);
  assert.deepEqual(world.machine.traces(), before);
  assert.deepEqual(world.peers(), ["home", "phone"]);
  world.coordinator.map = { ...MAP, seq: 8, peers: [HOME] };
  world.coordinator.away = false;
  await world.clock.advance(MINUTE);
  assert.deepEqual(world.peers(), ["home"]);
  await agent.stop();
});

test("a map without a peer takes the peer out of the data plane at once", async () => {
  const world = new World();
  const agent = await world.start();
  assert.deepEqual(world.peers(), ["home", "phone"]);
  world.coordinator.push({ ...MAP, seq: 8, peers: [HOME] });
  await settled();
  assert.deepEqual(world.peers(), ["home"]);
  assert.equal((await agent.status()).coordinator.mapSeq, 8);
  await agent.stop();
});

test("an exit node that leaves the map is shown as gone, and nothing leaves beside it", async () => {
  const world = new World();
  const agent = await world.start();
  await agent.use("home");
  world.coordinator.push({ ...MAP, seq: 8, peers: [PHONE] });
  await settled();
  assert.equal((await agent.status()).exit?.state, "gone");
  assert.ok(world.machine.routes[4].has("0.0.0.0/0") && world.machine.routes[6].has("::/0"));
  await agent.stop();
});

for (const exit of ["hom", "phone"])
  test(`use of "${exit}" is refused with the exit nodes there are, and the choice stays`, async () => {
    const world = new World();
    const agent = await world.start();
    await agent.use("home");
    assert.deepEqual(await agent.ask({ do: "use", exit }), {
      ok: false,
      error: {
        code: "exit-unknown",
        message: `there is no exit node "${exit}"; known: home`,
        advice: "exitnode use home",
      },
    });
    assert.equal((await agent.status()).exit?.name, "home");
    await agent.stop();
  });

test("use none gives everything but the network's own ranges back", async () => {
  const world = new World();
  const agent = await world.start();
  const before = world.machine.traces();
  await agent.use("home");
  assert.notDeepEqual(world.machine.traces(), before);
  assert.equal((await agent.use(null)).exit, undefined);
  assert.deepEqual(world.machine.traces(), before);
  await agent.stop();
});

test("how look-ups go is told in status and kept across a restart, until an exit is chosen anew", async () => {
  const world = new World();
  world.disk.set("/etc/resolv.conf", "nameserver 203.0.113.53\n");
  const first = await world.start();
  assert.equal((await first.status()).dns, undefined, "without names and without an exit they are left alone");
  assert.equal(world.machine.dns, undefined);
  const answer = await first.ask({ do: "use", exit: "home", dns: "mine-via-exit" });
  const mine = { choice: "mine-via-exit", servers: ["203.0.113.53"], way: "tunnel" };
  assert.deepEqual((answer as { value: { dns: unknown } }).value.dns, mine);
  await first.stop();
  assert.equal(world.machine.dns, undefined);
  const second = await world.start();
  assert.deepEqual((await second.status()).dns, mine);
  assert.deepEqual((await second.use("home")).dns, { choice: "exit", servers: ["100.64.0.1"], way: "tunnel" });
  await second.stop();
});

test("with names in the map look-ups of the machine's resolvers are answered, also when those become others", async () => {
  const world = new World();
  world.coordinator.map = { ...MAP, names: { domain: "home.example", records: [], split: [], resolvers: [] } };
  world.disk.set("/etc/resolv.conf", "nameserver 192.168.7.1\n");
  const agent = await world.start();
  assert.match(world.machine.dns ?? "", /daddr \{ 192\.168\.7\.1 \}/);
  world.disk.set("/etc/resolv.conf", "nameserver 10.9.9.1\n");
  await world.clock.advance(2 * LOOK_INTERVAL_MS);
  assert.match(world.machine.dns ?? "", /daddr \{ 10\.9\.9\.1 \}/);
  const { dns } = await agent.status();
  assert.deepEqual(dns, { domain: "home.example", servers: ["10.9.9.1"], way: "direct" });
  await agent.stop();
  assert.equal(world.machine.dns, undefined);
});

test("a request that the agent does not know is answered with a failure", async () => {
  const world = new World();
  const agent = await world.start();
  for (const request of [undefined, null, 7, "status", { do: "dance" }, { do: "use" }, { do: "use", exit: "Ü" }])
    assert.deepEqual(await agent.ask(request), {
      ok: false,
      error: { code: "request-invalid", message: "the agent does not know that request" },
    });
  await agent.stop();
});

test("a final refusal is shown in status and not tried again", async () => {
  const world = new World();
  world.coordinator.refusal = "join-key-used";
  const agent = await world.start();
  await world.clock.advance(30 * MINUTE);
  assert.equal(world.coordinator.dials, 1);
  const { connected, refusal, reason } = (await agent.status()).coordinator;
  assert.deepEqual(
    { connected, refusal, reason },
    {
      connected: false,
      refusal: "join-key-used",
      reason: "this device is not let in",
    },
  );
  await agent.stop();
});

test("the join secret is in the greeting, and its file goes once the device is in", async () => {
  const world = new World();
  const secret = "s".repeat(43);
  const urls = ["https://203.0.113.7"];
  world.disk.set("/var/join.key", `${encodeJoinKey({ coordinatorKey: world.coordinator.publicKey, urls, secret })}\n`);
  const agent = await world.start();
  assert.equal(world.coordinator.hellos[0]?.joinSecret, secret);
  assert.equal(world.disk.has("/var/join.key"), false);
  await agent.stop();
});

test("an exit node whose endpoint stays silent for a whole window is tried at its next one, and round again", async () => {
  const world = new World();
  const agent = await world.start();
  await agent.use("home");
  assert.equal(world.homeEndpoint(), "203.0.113.7:51820");
  await world.clock.advance(ENDPOINT_WINDOW_MS);
  assert.equal(world.homeEndpoint(), "203.0.113.7:51820", "the window has begun with the first look");
  await world.clock.advance(LOOK_INTERVAL_MS);
  assert.equal(world.homeEndpoint(), "198.51.100.9:51820");
  await world.clock.advance(ENDPOINT_WINDOW_MS);
  assert.equal(world.homeEndpoint(), "203.0.113.7:51820");
  await agent.stop();
});

test("an endpoint that answered is kept, and the exit is active", async () => {
  const world = new World();
  const agent = await world.start();
  await agent.use("home");
  world.backend.answering.set(HOME.publicKey, { lastHandshakeAgeMs: 5 * SECOND, sentBytes: 1 });
  await world.clock.advance(5 * MINUTE);
  assert.equal(world.homeEndpoint(), "203.0.113.7:51820");
  assert.equal((await agent.status()).exit?.state, "active");
  await agent.stop();
});

test("an exit that answers nothing any more is active for 15 s at most, and for longer while only keepalives go out", async () => {
  const world = new World();
  const agent = await world.start();
  await agent.use("home");
  let [sentBytes, receivedBytes] = [1_000, 1_000];
  const tell = () =>
    world.backend.answering.set(HOME.publicKey, { lastHandshakeAgeMs: SECOND, sentBytes, receivedBytes });
  tell();
  await world.clock.advance(10 * SECOND);
  for (let i = 0; i < 4; i++) {
    sentBytes += 32;
    tell();
    await world.clock.advance(10 * SECOND);
  }
  assert.equal((await agent.status()).exit?.state, "active", "keepalives want no answer");
  [sentBytes, receivedBytes] = [sentBytes + 148, receivedBytes + 92];
  tell();
  await world.clock.advance(5 * SECOND);
  for (let i = 0; i < 3; i++) {
    sentBytes += 148;
    tell();
    await world.clock.advance(5 * SECOND);
  }
  const before = await agent.status();
  assert.equal(before.exit?.state, "active");
  await world.clock.advance(3 * SECOND);
  const { exit, peers } = await agent.status();
  const home = peers.find(({ name }) => name === "home");
  assert.equal(exit?.state, "waiting");
  assert.equal(home?.path, "searching");
  assert.ok(home?.silentMs !== undefined && home.silentMs >= 20 * SECOND, `${home?.silentMs}`);
  receivedBytes += 92;
  tell();
  await world.clock.advance(2 * SECOND);
  assert.equal((await agent.status()).exit?.state, "active", "one answer ends it");
  await agent.stop();
});

test("the choice survives a restart, and so does having made none again", async () => {
  const world = new World();
  const first = await world.start();
  await first.use("home");
  await first.stop();
  const second = await world.start();
  assert.equal((await second.status()).exit?.name, "home");
  await second.use(null);
  await second.stop();
  const third = await world.start();
  assert.equal((await third.status()).exit, undefined);
  await third.stop();
});
