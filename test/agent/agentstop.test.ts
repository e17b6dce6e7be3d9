import assert from "node:assert/strict";
import { test } from "node:test";
import { LOOK_INTERVAL_MS } from "../../src/agent/agent.js";
import { Failure } from "../../src/kit/failure.js";
import { parseCidr, parseIp } from "../../src/kit/ip.js";
import { MAP, World } from "./agentworld.js";
import { settled } from "./labclock.js";

/** What an agent leaves on its machine when it stops, and when something stops it. */

test("shutdown gives the machine's routing back and closes the data plane", async () => {
  const world = new World();
  const agent = await world.start();
  await agent.use("home");
  assert.notDeepEqual(world.machine.traces(), []);
  assert.deepEqual(await agent.ask({ do: "shutdown" }), { ok: true, value: null });
  await agent.ended;
  assert.deepEqual(world.machine.traces(), []);
  assert.equal(world.backend.closed, true);
});

test("a map that is being applied when the agent is stopped leaves nothing behind", async () => {
  const world = new World();
  const agent = await world.start();
  let resume: () => void = () => undefined;
  const held = new Promise<void>((resolve) => {
    resume = resolve;
  });
  world.machine.before = (argv) => (argv.includes("address") && argv.includes("100.64.0.77/32") ? held : undefined);
  const self = { ...MAP.self, addresses: [parseIp("100.64.0.77")] };
  world.coordinator.push({ ...MAP, seq: 8, self, ranges: [...MAP.ranges, parseCidr("10.77.0.0/16")] });
  await settled();
  const stopped = agent.stop();
  await settled();
  resume();
  await stopped;
  await settled();
  assert.deepEqual(world.machine.traces(), []);
});

test("an exit node on the kernel's data plane leaves its interface and routes working when it stops", async () => {
  const world = new World({ name: "home", role: "exit-node" });
  world.kernel = true;
  const agent = await world.start();
  const before = world.machine.traces();
  assert.notDeepEqual(before, []);
  await agent.stop();
  assert.equal(world.backend.kind, "kernel");
  assert.equal(world.backend.closed, false);
  assert.deepEqual(world.machine.link, { up: true, mtu: 1280 });
  assert.deepEqual(world.machine.traces(), before);
});

test("an exit node in userspace takes its interface with it", async () => {
  const world = new World({ name: "home", role: "exit-node" });
  const agent = await world.start();
  await agent.stop();
  assert.equal(world.backend.closed, true);
  assert.deepEqual(world.machine.traces(), []);
});

test("what cannot be set is a warning in status, and is tried again until it can", async () => {
  const world = new World();
  const agent = await world.start();
  world.machine.before = (argv) => {
    if (argv[0] === "nft" && argv[1] === "-f") throw new Failure("exec-failed", "cannot run nft");
  };
  const refused = await agent.ask({ do: "use", exit: "home" });
  assert.deepEqual(refused, { ok: false, error: { code: "exec-failed", message: "cannot run nft" } });
  world.coordinator.push({ ...MAP, seq: 8 });
  await settled();
  assert.deepEqual((await agent.status()).warnings, ["cannot run nft"]);
  world.machine.before = () => undefined;
  await world.clock.advance(LOOK_INTERVAL_MS);
  assert.deepEqual((await agent.status()).warnings, []);
  assert.notEqual(world.machine.dns, undefined);
  await agent.stop();
});

test("a data plane that ends by itself ends the agent, with the routing given back and the reason told", async () => {
  const world = new World();
  const agent = await world.start();
  await agent.use("home");
  world.fail(new Failure("engine-failed", "the tunnel device is gone"));
  await assert.rejects(agent.ended, /the tunnel device is gone/);
  assert.deepEqual(world.machine.traces(), []);
});

test("a join key on disk that is no join key ends the agent in order, with its reason", {
  timeout: 60_000,
}, async () => {
  const world = new World();
  world.disk.set("/var/join.key", "exnkey1-half\n");
  const agent = await world.start();
  await assert.rejects(agent.ended, (error: unknown) => error instanceof Failure && error.code === "join-key-invalid");
  assert.equal(world.backend.closed, true);
  assert.deepEqual(world.machine.traces(), []);
});
