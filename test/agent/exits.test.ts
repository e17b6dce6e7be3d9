import assert from "node:assert/strict";
import { test } from "node:test";
import { utf8 } from "../../src/kit/bytes.js";
import { hash } from "../../src/kit/crypto.js";
import { parseIp } from "../../src/kit/ip.js";
import { keyOf } from "../../src/kit/key.js";
import { MINUTE, SECOND } from "../../src/kit/time.js";
import type { MapPeer } from "../../src/wire/map.js";
import { HOME, MAP, PHONE, World } from "./agentworld.js";
import { settled } from "./labclock.js";

const CABIN: MapPeer = {
  ...HOME,
  ...{ id: "d3", name: "cabin", publicKey: keyOf(hash(utf8("cabin"))) },
  addresses: [parseIp("100.64.0.4")],
  resolvers: [parseIp("100.64.0.4")],
};
const [HOME_RESOLVER, CABIN_RESOLVER] = ["100.64.0.1", "100.64.0.4"] as const;

async function worldOfTwo(): Promise<World> {
  const world = new World();
  world.coordinator.map = { ...MAP, peers: [HOME, PHONE, CABIN] };
  world.resolvers.add(HOME_RESOLVER).add(CABIN_RESOLVER);
  return world;
}

/** Whose tunnel everything goes into. */
const exitOf = (world: World): string[] =>
  (world.backend.want?.peers ?? [])
    .filter(({ allowedIps }) => allowedIps.some((to) => to === "0.0.0.0/0"))
    .map(({ publicKey }) => [HOME, PHONE, CABIN].find((peer) => peer.publicKey === publicKey)?.name ?? "a stranger");

test("with home,cabin everything goes through cabin within 10 s of home's end, and back 60 s after it is well", async () => {
  const world = await worldOfTwo();
  const agent = await world.start();
  await agent.use("home", "cabin");
  await world.clock.advance(20 * SECOND);
  assert.deepEqual(exitOf(world), ["home"]);
  const [routes, peers] = [world.machine.traces(), world.peers()];

  world.resolvers.delete(HOME_RESOLVER);
  world.coordinator.leave();
  await world.clock.advance(10 * SECOND);
  assert.deepEqual(exitOf(world), ["cabin"], "also without the coordinator");
  assert.deepEqual(world.peers(), peers, "the mesh is as it was");
  assert.deepEqual(world.machine.traces(), routes, "and nothing leaves beside the tunnel");
  const { exit, dns } = await agent.status();
  assert.deepEqual(dns?.servers, [CABIN_RESOLVER]);
  assert.equal(exit?.name, "cabin");
  assert.deepEqual(exit?.wanted, ["home", "cabin"]);
  assert.equal(exit?.switched?.why, "silent");
  assert.deepEqual(exit?.returns, { to: "home", holdMs: MINUTE });

  world.resolvers.add(HOME_RESOLVER);
  await world.clock.advance(MINUTE);
  assert.deepEqual(exitOf(world), ["cabin"]);
  await world.clock.advance(7 * SECOND);
  assert.deepEqual(exitOf(world), ["home"]);
  assert.equal((await agent.status()).exit?.switched?.why, "back");
  await agent.stop();
});

test("a machine that takes long to say how it is set up does not keep an exit that is silent", async () => {
  const world = await worldOfTwo();
  const agent = await world.start();
  await agent.use("home", "cabin");
  world.backend.answering.set(HOME.publicKey, { lastHandshakeAgeMs: SECOND });
  let resume: (() => void) | undefined;
  world.machine.before = (argv) => {
    if (resume !== undefined || argv[0] !== "nft") return;
    return new Promise<void>((resolve) => {
      resume = resolve;
    });
  };
  await world.clock.advance(MINUTE);
  assert.ok(resume !== undefined, "the filter is looked for now and then");
  world.resolvers.delete(HOME_RESOLVER);
  await world.clock.advance(10 * SECOND);
  assert.deepEqual(exitOf(world), ["cabin"]);
  resume();
  await agent.stop();
});

test("the list survives a restart without the coordinator, and is used in its order", async () => {
  const world = await worldOfTwo();
  const first = await world.start();
  await first.use("cabin", "home");
  await first.stop();
  world.coordinator.away = true;
  world.resolvers.delete(CABIN_RESOLVER);
  const second = await world.start();
  assert.deepEqual(exitOf(world), ["cabin"]);
  await world.clock.advance(10 * SECOND);
  assert.deepEqual(exitOf(world), ["home"]);
  await second.stop();
});

test("an exit of the list that leaves the map is replaced with the same map, and used again when it is back", async () => {
  const world = await worldOfTwo();
  const agent = await world.start();
  await agent.use("home", "cabin");
  world.coordinator.push({ ...MAP, seq: 8, peers: [PHONE, CABIN] });
  await settled();
  assert.deepEqual(exitOf(world), ["cabin"]);
  assert.equal((await agent.status()).exit?.switched?.why, "gone");
  world.coordinator.push({ ...MAP, seq: 9, peers: [HOME, PHONE, CABIN] });
  await world.clock.advance(80 * SECOND);
  assert.deepEqual(exitOf(world), ["home"]);
  await agent.stop();
});

test("nearest takes an exit that answers, and none of a list may be unknown", async () => {
  const world = await worldOfTwo();
  const agent = await world.start();
  world.resolvers.delete(HOME_RESOLVER);
  await agent.use("nearest");
  await world.clock.advance(4 * SECOND);
  assert.deepEqual(exitOf(world), ["cabin"]);
  assert.equal((await agent.status()).exit?.wanted, "nearest");
  const refused = await agent.ask({ do: "use", exit: "home", others: ["hut"] });
  assert.equal(
    (refused as { error: { message: string } }).error.message,
    'there is no exit node "hut"; known: home, cabin',
  );
  assert.deepEqual(exitOf(world), ["cabin"]);
  await agent.stop();
});

test("the file of an agent that knew one exit is understood, and an agent that knows one reads the first of ours", async () => {
  const world = await worldOfTwo();
  world.disk.set("/var/choice.json", '{"exit":"cabin","dns":"mine"}\n');
  const agent = await world.start();
  assert.deepEqual(exitOf(world), ["cabin"]);
  assert.equal((await agent.status()).dns?.choice, "mine");
  await agent.use("home", "cabin");
  assert.deepEqual(JSON.parse(world.disk.get("/var/choice.json") ?? ""), { exit: "home", exits: ["home", "cabin"] });
  await agent.stop();
});

test("where no exit answers the one in use stays, and is not said to work", async () => {
  const world = await worldOfTwo();
  const agent = await world.start();
  world.backend.answering.set(HOME.publicKey, { lastHandshakeAgeMs: 5 * SECOND });
  assert.equal((await agent.use("home", "cabin")).exit?.state, "active");
  world.resolvers.clear();
  await world.clock.advance(10 * MINUTE);
  assert.deepEqual(exitOf(world), ["home"]);
  const { exit } = await agent.status();
  assert.equal(exit?.state, "waiting");
  assert.deepEqual(
    exit?.exits?.map(({ state }) => state),
    ["silent", "silent"],
  );
  await agent.stop();
});

test("with one exit nobody is asked anything", async () => {
  const world = await worldOfTwo();
  const agent = await world.start();
  await agent.use("home");
  world.resolvers.clear();
  await world.clock.advance(5 * MINUTE);
  assert.deepEqual(exitOf(world), ["home"]);
  assert.equal((await agent.status()).exit?.exits, undefined);
  await agent.stop();
});
