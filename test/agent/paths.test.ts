import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import type { Millis } from "../../src/kit/time.js";
import { pingAnswer } from "../../src/wire/agentsocket.js";
import { until } from "../engine/patience.js";
import { must, pings } from "../engine/places.js";
import { lostOf, lostWhile } from "../vm/lostwhile.js";
import { Pace } from "./pace.js";
import { MIDDLES, PathsWorld, type PlacedAgent } from "./pathsworld.js";

/** Real agents, engines, relays and routers: what a person at a café notices of the way home, and when. */

const FIRST_ANSWER_MS: Millis = 1_000;
const DIRECT_MS: Millis = 2_000;
const RECOVERED_MS: Millis = 7_000;
const MOVED_MS: Millis = 5_000;
const RELAY_DIED_MS: Millis = 10_000;
const ROUND_TRIP_MS: Millis = 500;
const EVERY_MS: Millis = 100;
/** They are as near as each other: which one is measured as nearer is this machine's doing. */
const A_RELAY = /^relay-[12]$/;
/** For whatever answer there is to be; how soon it has to come is asked of the answer. */
const PATIENCE_S = "30";
const pace = new Pace();

async function bothUp(
  world: PathsWorld,
  names: readonly [string, string],
  dataPlane: "userspace" | "kernel" = "userspace",
): Promise<[PlacedAgent, PlacedAgent]> {
  const agents = await Promise.all([world.agent("a", names[0], { dataPlane }), world.agent("b", names[1])]);
  await until("both know each other and have a relay", async () => {
    const [left, right] = await Promise.all(agents.map((agent) => agent.status()));
    const isReady = (status: typeof left) => status?.peers.length === 1 && status.homeRelay !== undefined;
    return isReady(left) && isReady(right);
  });
  for (const { place } of agents)
    await until("the network's routes are set", async () =>
      (await place.exec.run(["ip", "route", "get", "100.64.0.9"])).stdout.includes("exnap"),
    );
  return agents as [PlacedAgent, PlacedAgent];
}

const addressOf = async (agent: PlacedAgent, peer: string): Promise<string> =>
  (await agent.peer(peer))?.addresses[0] ?? "";

/** A ping every EVERY_MS before, while and after `work` goes on: how many were lost, and how long the longest silence was. */
async function silenceWhile(agent: PlacedAgent, to: string, work: () => Promise<void>) {
  const { lost } = await lostWhile(agent.place, to, String(EVERY_MS / 1_000), work);
  let [longest, run] = [0, 0];
  for (const [i, number] of lost.entries()) {
    run = number - 1 === lost[i - 1] ? run + 1 : 1;
    longest = Math.max(longest, run);
  }
  return { lost: lost.length, silenceMs: (longest + 1) * EVERY_MS };
}

describe("two devices behind ordinary home routers", () => {
  const world = new PathsWorld("exn-ap-");
  let laptop: PlacedAgent;
  let address = "";
  before(async () => {
    await world.open();
    [laptop] = await bothUp(world, ["laptop", "desk"]);
    address = await addressOf(laptop, "desk");
  });
  after(() => world.close());
  const path = async (): Promise<string | undefined> => (await laptop.peer("desk"))?.path;

  test("the first packet arrives within a second, and a direct path is there soon after", async (t) => {
    pace.begin();
    const first = await laptop.place.exec.run(["ping", "-n", "-c", "1", "-W", PATIENCE_S, address]);
    const firstMs = Number(/ time=([\d.]+) ms/.exec(first.stdout)?.[1] ?? Infinity);
    t.diagnostic(`first answer after ${Math.round(firstMs)} ms`);
    assert.ok(firstMs <= pace.allows(FIRST_ANSWER_MS), `first answer after ${firstMs} ms`);
    pace.begin();
    const directMs = await until("direct", async () => (await path()) === "direct");
    t.diagnostic(`direct after ${Math.round(directMs)} ms more`);
    assert.ok(directMs <= pace.allows(DIRECT_MS), `direct after ${directMs} ms more`);
    const { endpoint, relay, why } = (await laptop.peer("desk")) ?? {};
    assert.deepEqual({ endpoint, relay, why }, { endpoint: "198.51.100.10:51820", relay: undefined, why: undefined });
    const { roundTripMs = -1, ...rest } = pingAnswer.parse(await laptop.ask({ do: "ping", peer: "desk" }));
    assert.deepEqual(rest, { peer: "desk", path: "direct", endpoint: "198.51.100.10:51820" });
    assert.ok(roundTripMs >= 0 && roundTripMs < pace.allows(ROUND_TRIP_MS), `${roundTripMs} ms`);
  });

  test("with the relays gone, a direct path loses nothing; nor with the coordinator gone as well", async () => {
    await world.cut("tcp dport 443");
    assert.deepEqual(await lostOf(laptop.place, address, 15), []);
    await world.cut("tcp dport { 443, 8443 }");
    assert.deepEqual(await lostOf(laptop.place, address, 15), []);
    assert.equal(await path(), "direct");
    await world.cut();
  });

  test("a direct path that is cut is replaced by the relay, and taken again when it is back", async (t) => {
    pace.begin();
    const cut = await silenceWhile(laptop, address, async () => {
      await until("direct", async () => (await path()) === "direct");
      await world.cut("udp dport 51820");
      const leftMs = await until("not direct", async () => (await path()) !== "direct");
      t.diagnostic(`no longer direct after ${Math.round(leftMs)} ms`);
      assert.match((await laptop.peer("desk"))?.relay ?? "", A_RELAY);
      assert.deepEqual(await lostOf(laptop.place, address, 3), []);
    });
    t.diagnostic(`the longest silence was ${cut.silenceMs} ms`);
    assert.ok(cut.silenceMs <= pace.allows(RECOVERED_MS), `silent for ${cut.silenceMs} ms`);
    const back = await silenceWhile(laptop, address, async () => {
      await world.cut();
      const backMs = await until("direct", async () => (await path()) === "direct");
      t.diagnostic(`direct again after ${Math.round(backMs)} ms`);
    });
    assert.ok(back.lost <= 1, `${back.lost} lost while it changed back`);
  });

  test("a path that carries 1124 bytes carries whole packets, directly and by the relay", async () => {
    const narrow = (mtu: number) =>
      Promise.all([must(world.middle, `ip link set to-b mtu ${mtu}`), must(router, `ip link set out mtu ${mtu}`)]);
    const { router } = world.sides.b;
    const whole = ["-s", "1252", "-M", "do"];
    await narrow(1_124);
    assert.deepEqual(await lostOf(laptop.place, address, 5, ...whole), []);
    assert.equal(await path(), "direct");
    await world.cut("udp dport 51820");
    await until("relayed", async () => (await path()) !== "direct");
    // The relay's TCP finds out how much it carries with the first large packet.
    await until("it is answered", () => pings(laptop.place, address, "-W", "1", ...whole));
    assert.deepEqual(await lostOf(laptop.place, address, 5, ...whole), []);
    await world.cut();
    await narrow(1_500);
    await until("direct", async () => (await path()) === "direct");
  });

  test("WireGuard itself sends straight to the peer then, and stays there", async () => {
    const endpoints = new Set<string>();
    const watched = until("three seconds are over", async () => {
      const shown = await laptop.place.exec.run(["cat", "/proc/net/udp"]);
      assert.equal(shown.exitCode, 0);
      endpoints.add((await laptop.peer("desk"))?.endpoint ?? "none");
      return performance.now() - began > 3_000;
    });
    const began = performance.now();
    assert.deepEqual(await lostOf(laptop.place, address, 30), []);
    await watched;
    assert.deepEqual([...endpoints], ["198.51.100.10:51820"]);
  });
});

describe("a device that moves", () => {
  const world = new PathsWorld("exn-am-");
  let laptop: PlacedAgent;
  let address = "";
  before(async () => {
    await world.open();
    [laptop] = await bothUp(world, ["laptop", "home"]);
    address = await addressOf(laptop, "home");
    await laptop.ask({ do: "use", exit: "home" });
    await until("direct", async () => (await laptop.peer("home"))?.path === "direct");
  });
  after(() => world.close());

  test("is reached again at once at its new address", async (t) => {
    const { home } = world.sides.a;
    pace.begin();
    const { silenceMs } = await silenceWhile(laptop, address, async () => {
      await must(home, "ip address del 192.168.1.2/24 dev wire");
      await must(home, "ip address add 192.168.1.77/24 dev wire");
      await must(home, "ip route add default via 192.168.1.1 dev wire");
      await until("it is answered", async () => (await lostOf(laptop.place, address, 5)).length === 0);
      const directMs = await until("direct", async () => (await laptop.peer("home"))?.path === "direct");
      t.diagnostic(`direct after ${Math.round(directMs)} ms more`);
    });
    t.diagnostic(`the longest silence was ${silenceMs} ms`);
    assert.ok(silenceMs <= pace.allows(MOVED_MS), `silent for ${silenceMs} ms`);
  });
});

describe("a device whose WireGuard is not our own", () => {
  const world = new PathsWorld("exn-ak-");
  let laptop: PlacedAgent;
  let address = "";
  before(async () => {
    await world.open();
    [laptop] = await bothUp(world, ["laptop", "desk"], "kernel");
    address = await addressOf(laptop, "desk");
  });
  after(() => world.close());
  const endpoint = async (): Promise<string> => must(laptop.place, "wg show exnapa endpoints");

  test("is pointed at the relay's stand-in, at the peer itself, and at the stand-in again", async () => {
    await until("it was told", async () => /\s127\.(12[89]|1[3-9]\d|2\d\d)\./.test(await endpoint()));
    assert.deepEqual(await lostOf(laptop.place, address, 3), []);
    await until("direct", async () => (await laptop.peer("desk"))?.path === "direct");
    await until("it was told", async () => (await endpoint()).includes("198.51.100.10:51820"));
    assert.deepEqual(await lostOf(laptop.place, address, 10), []);
    await world.cut("udp dport 51820");
    await silenceWhile(laptop, address, async () => {
      await until("not direct", async () => (await laptop.peer("desk"))?.path !== "direct");
    });
    assert.deepEqual(await lostOf(laptop.place, address, 3), []);
    assert.match(await endpoint(), /\s127\./);
  });
});

describe("two devices behind routers that choose another port for every destination", () => {
  const world = new PathsWorld("exn-ah-");
  let laptop: PlacedAgent;
  let home: PlacedAgent;
  let address = "";
  before(async () => {
    await world.open();
    await Promise.all((["a", "b"] as const).map((side) => world.nat(side, "hard")));
    [laptop, home] = await bothUp(world, ["laptop", "home"]);
    address = await addressOf(laptop, "home");
  });
  after(() => world.close());

  test("they stay on the relay, and status says why and what to do", async () => {
    assert.deepEqual(await lostOf(laptop.place, address, 3), []);
    await until("the search is over, and both NATs are known", async () => {
      const { path, why } = (await laptop.peer("home")) ?? {};
      return path === "relayed" && why?.words === "both NATs change the port per destination";
    });
    const { path, relay, why, endpoint } = (await laptop.peer("home")) ?? {};
    assert.match(relay ?? "", A_RELAY);
    assert.deepEqual([path, endpoint], ["relayed", undefined]);
    assert.match(why?.help ?? "", /forward the WireGuard port/);
    const pinged = pingAnswer.parse(await laptop.ask({ do: "ping", peer: "home" }));
    assert.match(pinged.relay ?? "", A_RELAY);
    assert.deepEqual([pinged.peer, pinged.path, pinged.why], ["home", "relayed", why]);
    assert.ok(pinged.roundTripMs !== undefined);
  });

  test("the relay in use loses its power: within 10 s both are at the other one", async (t) => {
    const dead = (await home.status()).homeRelay ?? "";
    const other = dead === "relay-1" ? "relay-2" : "relay-1";
    const at = `ip daddr ${MIDDLES[dead === "relay-1" ? 0 : 1]}`;
    pace.begin();
    const { silenceMs } = await silenceWhile(laptop, address, async () => {
      await world.cut(`${at} tcp dport 443`, `${at} udp dport 3478`);
      for (const agent of [laptop, home])
        await until("the other relay is home", async () => (await agent.status()).homeRelay === other);
      await until("the peer is there", async () => (await laptop.peer("home"))?.relay === other);
    });
    t.diagnostic(`silent for ${silenceMs} ms`);
    assert.ok(silenceMs <= pace.allows(RELAY_DIED_MS), `silent for ${silenceMs} ms`);
    await world.cut();
  });

  test("everything goes through the exit node by the relay, whose own connection keeps out of the tunnel", async () => {
    const { home } = world.sides.b;
    await home.exec.run(["sysctl", "-qw", "net.ipv4.ip_forward=1"]);
    await home.exec.run(["nft", "-f", "-"], {
      input: 'table ip nat { chain post { type nat hook postrouting priority srcnat; oifname "wire" masquerade; }; }',
    });
    await laptop.ask({ do: "use", exit: "home" });
    const route = await laptop.place.exec.run(["ip", "route", "get", MIDDLES[1]]);
    assert.match(route.stdout, /exnapa/);
    assert.deepEqual(await lostOf(laptop.place, MIDDLES[1], 20), []);
    assert.equal((await laptop.peer("home"))?.path, "relayed");
    assert.equal((await laptop.status()).exit?.state, "active");
  });

  test("without the coordinator the relay goes on", async () => {
    await world.cut("tcp dport 8443");
    assert.deepEqual(await lostOf(laptop.place, address, 20), []);
    await world.cut();
  });

  test("started again without the coordinator, it goes by the relay with what it kept", async () => {
    await world.cut("tcp dport 8443");
    await laptop.stop();
    laptop = await world.agent("a", "laptop");
    await until("it is answered", () => pings(laptop.place, address, "-W", "1"));
    const { coordinator } = await laptop.status();
    assert.equal(coordinator.connected, false);
    assert.match((await laptop.peer("home"))?.relay ?? "", A_RELAY);
  });
});
