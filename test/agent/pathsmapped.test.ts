import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { netcheckAnswer } from "../../src/wire/agentsocket.js";
import { until } from "../engine/patience.js";
import { PathsWorld, type PlacedAgent } from "./pathsworld.js";

/** Both routers choose another port per destination; one of them gives out ports when it is asked. */
const missing = !existsSync("/usr/sbin/miniupnpd") && "needs miniupnpd";

describe("a device whose router gives out ports", { skip: missing }, () => {
  // miniupnpd maps no port on an address it knows to be reserved, documentation ranges included. These stay inside.
  const world = new PathsWorld("exn-au-", "11.1.1");
  let laptop: PlacedAgent;
  let home: PlacedAgent;
  before(async () => {
    await world.open();
    await Promise.all((["a", "b"] as const).map((side) => world.nat(side, "hard")));
    await world.giveOutPorts("b");
    [laptop, home] = await Promise.all([world.agent("a", "laptop"), world.agent("b", "home")]);
  });
  after(() => world.close());

  test("is believed to have one when a relay has reached it there, and is then reached directly", async (t) => {
    const netcheck = async () => netcheckAnswer.parse(await home.ask({ do: "netcheck" }));
    const mappedMs = await until("mapped", async () => (await netcheck()).portmap.endpoint !== undefined);
    t.diagnostic(`mapped after ${Math.round(mappedMs)} ms`);
    const { portmap, nat, udp } = await netcheck();
    assert.deepEqual([portmap.pcp, portmap.endpoint, udp], ["mapped", `${world.publicOf("b")}:51820`, true]);
    assert.match(nat?.is ?? "", /address-and-port-dependent/);
    await laptop.ask({ do: "use", exit: "home" });
    await until("direct", async () => (await laptop.peer("home"))?.path === "direct");
    assert.equal((await laptop.peer("home"))?.endpoint, `${world.publicOf("b")}:51820`);
  });

  test("gives it back when it stops", async () => {
    const rules = async () =>
      (await world.sides.b.router.exec.run(["nft", "list", "chain", "inet", "upnp", "mapped"])).stdout;
    assert.match(await rules(), /51820/);
    await home.stop();
    await until("the router has forgotten it", async () => !/51820/.test(await rules()));
  });
});
