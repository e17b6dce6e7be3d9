import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { HEARTBEAT_MS, TRUST_MS } from "../../src/nat/directpath.js";
import { until } from "../engine/patience.js";
import { pings } from "../engine/places.js";
import { lostWhile } from "../vm/lostwhile.js";
import { PathsWorld, type PlacedAgent } from "./pathsworld.js";

/** What goes on while an exit node's agent is replaced: its interface is not its own, and outlives it. */

/** The peer gives an agent up that answers no probe for TRUST_MS; the last answer may have come a heartbeat ago. */
const AWAY_MAX_MS = TRUST_MS - HEARTBEAT_MS;

describe("an exit node whose WireGuard is not our own", () => {
  const world = new PathsWorld("exn-ad-");
  let laptop: PlacedAgent;
  let home: PlacedAgent;
  let address = "";
  const startHome = () => world.agent("b", "home", { dataPlane: "kernel", interface: "exnadb" });
  const isDirect = async () =>
    (await laptop.peer("home"))?.path === "direct" && (await home.peer("laptop"))?.path === "direct";

  before(async () => {
    await world.open();
    [laptop, home] = await Promise.all([world.agent("a", "laptop", { interface: "exnada" }), startHome()]);
    await until("the exit node is there", async () => (await laptop.peer("home"))?.online === true);
    address = (await laptop.peer("home"))?.addresses[0] ?? "";
    await until("it is answered", () => pings(laptop.place, address, "-W", "1"));
    await until("direct", isDirect);
  });
  after(() => world.close());

  test("started again, its agent leaves a direct session where it is: no packet is lost", async (t) => {
    let awayMs = 0;
    const { came, lost } = await lostWhile(laptop.place, address, "0.05", async () => {
      const began = performance.now();
      await home.stop();
      home = await startHome();
      awayMs = performance.now() - began;
      await until("direct again", isDirect);
    });
    t.diagnostic(`${came} answers; the agent was away for ${Math.round(awayMs)} ms`);
    if (lost.length > 0 && awayMs > AWAY_MAX_MS)
      return t.skip(`the machine is slow: the agent was away for ${Math.round(awayMs)} ms`);
    assert.deepEqual(lost, []);
  });
});
