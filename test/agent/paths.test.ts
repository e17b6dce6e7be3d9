import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { text } from "node:stream/consumers";
import { after, before, describe, test } from "node:test";
import type { Millis } from "../../src/kit/time.js";
import { pingAnswer } from "../../src/wire/agentsocket.js";
import { until } from "../engine/patience.js";
import { must } from "../engine/places.js";
import { MIDDLES, PathsWorld, type PlacedAgent } from "./pathsworld.js";

/** Real agents, engines, relays and routers: what a person at a café notices of the way home, and when. */

const DIRECT_MS: Millis = 2_000;
const RECOVERED_MS: Millis = 7_000;
const MOVED_MS: Millis = 5_000;
const EVERY_MS: Millis = 100;

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

/** A ping every EVERY_MS while `work` goes on: how long the longest silence was, and how many were lost. */
async function pingWhile(agent: PlacedAgent, to: string, work: () => Promise<unknown>) {
  const argv = ["netns", "exec", agent.place.name, "ping", "-n", "-i", String(EVERY_MS / 1_000), to];
  const child = spawn("ip", argv, { stdio: ["ignore", "pipe", "inherit"] });
  const output = text(child.stdout);
  await work().finally(() => child.kill("SIGINT"));
  const numbers = [...(await output).matchAll(/icmp_seq=(\d+) ttl/g)].map(([, number]) => Number(number));
  const gaps = numbers.slice(1).map((number, i) => number - (numbers[i] ?? 0));
  return {
    answers: numbers.length,
    silenceMs: Math.max(0, ...gaps) * EVERY_MS,
    lost: gaps.reduce((sum, gap) => sum + gap - 1, 0),
  };
}

const answersOf = (agent: PlacedAgent, to: string, count: number, ...options: string[]): Promise<string> =>
  agent.place.exec
    .run(["ping", "-n", "-q", "-c", String(count), "-i", "0.1", "-W", "2", ...options, to])
    .then(({ stdout }) => /, (\d+) received/.exec(stdout)?.[1] ?? "none");

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
    const began = performance.now();
    assert.equal(await answersOf(laptop, address, 1, "-W", "1"), "1");
    t.diagnostic(`first answer after ${Math.round(performance.now() - began)} ms`);
    const directMs = await until("direct", async () => (await path()) === "direct", DIRECT_MS);
    t.diagnostic(`direct after ${Math.round(directMs)} ms more`);
    const { endpoint, relay, why } = (await laptop.peer("desk")) ?? {};
    assert.deepEqual({ endpoint, relay, why }, { endpoint: "198.51.100.10:51820", relay: undefined, why: undefined });
    const { roundTripMs = -1, ...rest } = pingAnswer.parse(await laptop.ask({ do: "ping", peer: "desk" }));
    assert.deepEqual(rest, { peer: "desk", path: "direct", endpoint: "198.51.100.10:51820" });
    assert.ok(roundTripMs >= 0 && roundTripMs < 500, `${roundTripMs} ms`);
  });

  test("with the relays gone, a direct path loses nothing; nor with the coordinator gone as well", async () => {
    await world.cut("tcp dport 443");
    assert.equal(await answersOf(laptop, address, 15), "15");
    await world.cut("tcp dport { 443, 8443 }");
    assert.equal(await answersOf(laptop, address, 15), "15");
    assert.equal(await path(), "direct");
    await world.cut();
  });

  test("a direct path that is cut is replaced by the relay, and taken again when it is back", async (t) => {
    const cut = await pingWhile(laptop, address, async () => {
      await until("direct", async () => (await path()) === "direct");
      await world.cut("udp dport 51820");
      const leftMs = await until("not direct", async () => (await path()) !== "direct", 10_000);
      t.diagnostic(`no longer direct after ${Math.round(leftMs)} ms`);
      assert.equal((await laptop.peer("desk"))?.relay, "relay-1");
      assert.equal(await answersOf(laptop, address, 3), "3");
    });
    t.diagnostic(`the longest silence was ${cut.silenceMs} ms`);
    assert.ok(cut.silenceMs <= RECOVERED_MS, `silent for ${cut.silenceMs} ms`);
    await world.cut();
    const back = await pingWhile(laptop, address, async () => {
      const backMs = await until("direct", async () => (await path()) === "direct", 15_000);
      t.diagnostic(`direct again after ${Math.round(backMs)} ms`);
    });
    assert.ok(back.lost <= 1 && back.answers > 0, `${back.lost} lost while it changed back`);
  });

  test("a path that carries 1124 bytes carries whole packets, directly and by the relay", async () => {
    const narrow = (mtu: number) =>
      Promise.all([must(world.middle, `ip link set to-b mtu ${mtu}`), must(router, `ip link set out mtu ${mtu}`)]);
    const { router } = world.sides.b;
    const whole = ["-s", "1252", "-M", "do"];
    await narrow(1_124);
    assert.equal(await answersOf(laptop, address, 5, ...whole), "5");
    assert.equal(await path(), "direct");
    await world.cut("udp dport 51820");
    await until("relayed", async () => (await path()) !== "direct");
    // The relay's TCP finds out how much it carries with the first large packet.
    await until("it is answered", async () => (await answersOf(laptop, address, 1, ...whole)) === "1");
    assert.equal(await answersOf(laptop, address, 5, ...whole), "5");
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
    assert.equal(await answersOf(laptop, address, 30), "30");
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
    const { silenceMs } = await pingWhile(laptop, address, async () => {
      await until("it is answered", async () => (await answersOf(laptop, address, 1)) === "1");
      await must(home, "ip address del 192.168.1.2/24 dev wire");
      await must(home, "ip address add 192.168.1.77/24 dev wire");
      await must(home, "ip route add default via 192.168.1.1 dev wire");
      await until("it is answered", async () => (await answersOf(laptop, address, 5)) === "5");
      const directMs = await until("direct", async () => (await laptop.peer("home"))?.path === "direct");
      t.diagnostic(`direct after ${Math.round(directMs)} ms more`);
    });
    t.diagnostic(`the longest silence was ${silenceMs} ms`);
    assert.ok(silenceMs <= MOVED_MS, `silent for ${silenceMs} ms`);
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
    assert.match(await endpoint(), /\s127\.(12[89]|1[3-9]\d|2\d\d)\./);
    assert.equal(await answersOf(laptop, address, 3), "3");
    await until("direct", async () => (await laptop.peer("desk"))?.path === "direct");
    await until("it was told", async () => (await endpoint()).includes("198.51.100.10:51820"));
    assert.equal(await answersOf(laptop, address, 10), "10");
    await world.cut("udp dport 51820");
    await pingWhile(laptop, address, () =>
      until("not direct", async () => (await laptop.peer("desk"))?.path !== "direct", 10_000),
    );
    assert.equal(await answersOf(laptop, address, 3), "3");
    assert.match(await endpoint(), /\s127\./);
  });
});

describe("two devices behind routers that choose another port for every destination", () => {
  const world = new PathsWorld("exn-ah-");
  let laptop: PlacedAgent;
  let address = "";
  before(async () => {
    await world.open();
    await Promise.all((["a", "b"] as const).map((side) => world.nat(side, "hard")));
    [laptop] = await bothUp(world, ["laptop", "home"]);
    address = await addressOf(laptop, "home");
  });
  after(() => world.close());

  test("they stay on the relay, and status says why and what to do", async () => {
    assert.equal(await answersOf(laptop, address, 3), "3");
    await until("the search is over", async () => (await laptop.peer("home"))?.path === "relayed");
    const { path, relay, why, endpoint } = (await laptop.peer("home")) ?? {};
    assert.deepEqual([path, relay, endpoint], ["relayed", "relay-1", undefined]);
    assert.equal(why?.words, "both NATs change the port per destination");
    assert.match(why?.help ?? "", /forward the WireGuard port/);
    const { roundTripMs, ...rest } = pingAnswer.parse(await laptop.ask({ do: "ping", peer: "home" }));
    assert.deepEqual(rest, { peer: "home", path: "relayed", relay: "relay-1", why });
    assert.ok(roundTripMs !== undefined);
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
    assert.equal(await answersOf(laptop, MIDDLES[1], 20), "20");
    assert.equal((await laptop.peer("home"))?.path, "relayed");
    assert.equal((await laptop.status()).exit?.state, "active");
  });

  test("without the coordinator the relay goes on", async () => {
    await world.cut("tcp dport 8443");
    assert.equal(await answersOf(laptop, address, 20), "20");
    await world.cut();
  });

  test("started again without the coordinator, it goes by the relay with what it kept", async () => {
    await world.cut("tcp dport 8443");
    await laptop.stop();
    laptop = await world.agent("a", "laptop");
    await until("it is answered", async () => (await answersOf(laptop, address, 1)) === "1");
    const { coordinator } = await laptop.status();
    assert.equal(coordinator.connected, false);
    assert.equal((await laptop.peer("home"))?.relay, "relay-1");
  });
});
