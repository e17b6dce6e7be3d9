import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { HEARTBEAT_MS, LINGER_MS, TRUST_MS } from "../../src/nat/directpath.js";
import { until } from "../engine/patience.js";
import { pings } from "../engine/places.js";
import { lostWhile } from "../vm/lostwhile.js";
import { PathsWorld, type PlacedAgent } from "./pathsworld.js";

/** What goes on while an exit node's agent is away: its interface is not its own, and outlives it. */

const AWAY_MS = 12_000;
/**
 * wireguard-go opens its port anew when it is told the port it has, and loses what comes in that moment: once for each
 * time that an agent sets the interface. The kernel does not (test/vm/kernel.test.ts: none is lost).
 */
const REOPENED_MAX = 2;

describe("an exit node whose WireGuard is not our own", () => {
  const world = new PathsWorld("exn-ad-");
  let laptop: PlacedAgent;
  let home: PlacedAgent;
  let address = "";
  const startHome = () => world.agent("b", "home", { dataPlane: "kernel", interface: "exnadb" });
  const path = async () => (await laptop.peer("home"))?.path;
  const isDirect = async () => (await path()) === "direct" && (await home.peer("laptop"))?.path === "direct";
  const paths = new Set<string | undefined>();
  /** Until so much time is over; meanwhile it is looked which paths there are. */
  const watch = (duration: number) => {
    const began = performance.now();
    paths.clear();
    const isOver = async (): Promise<boolean> => {
      paths.add(await path());
      return performance.now() - began > duration;
    };
    return until(`${duration} ms are over`, isOver, 2 * duration);
  };

  before(async () => {
    await world.open();
    [laptop, home] = await Promise.all([world.agent("a", "laptop", { interface: "exnada" }), startHome()]);
    await until("the exit node is there", async () => (await laptop.peer("home"))?.online === true);
    address = (await laptop.peer("home"))?.addresses[0] ?? "";
    await until("it is answered", () => pings(laptop.place, address, "-W", "1"));
    await until("direct", isDirect);
  });
  after(() => world.close());

  test("its agent away for 12 s, a session stays direct and goes on, also when there is another agent", async (t) => {
    const { came, lost } = await lostWhile(laptop.place, address, "0.05", async () => {
      await home.stop();
      await watch(AWAY_MS);
      home = await startHome();
      await until("direct again", isDirect);
    });
    t.diagnostic(`${came} answers, ${lost.length} lost`);
    assert.ok(lost.length <= REOPENED_MAX, `lost: ${lost.join()}`);
    assert.deepEqual([...paths], ["direct"]);
  });

  test("its agent away, a session that was idle meanwhile is answered at once, and is direct again", async () => {
    // An agent that has just started calls, which puts the path in doubt until the next heartbeat is answered.
    await watch(2 * HEARTBEAT_MS);
    await home.stop();
    await watch(TRUST_MS + LINGER_MS / 4);
    assert.notEqual(await path(), "direct", "there is no proof of it");
    // The first one, however slow this machine: WireGuard itself would try another way after five seconds.
    const isAnswered = await pings(laptop.place, address, "-W", "4");
    assert.ok(isAnswered, `no answer, and the path is ${JSON.stringify(await laptop.peer("home"))}`);
    await until("direct", async () => {
      await pings(laptop.place, address, "-W", "1");
      return (await path()) === "direct";
    });
    home = await startHome();
    await until("direct again", isDirect);
  });
});
