import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { localExec, mustRun } from "../../src/sys/exec.js";
import { netcheckAnswer } from "../../src/wire/agentsocket.js";
import { until } from "../engine/patience.js";
import { must } from "../engine/places.js";
import { removeNamespace } from "../engine/removenamespace.js";
import { PathsWorld, type PlacedAgent } from "./pathsworld.js";

/** Two exit nodes in one home, whose router forwards udp/51820 to the first: each is configured as if to itself. */

const world = new PathsWorld("exn-af-");
/** The second one's machine: the world has a name for it, and no other home there. */
const { home: second } = world.sides.c;
const { router } = world.sides.b;
const FORWARDED = { forwardedPort: 51_820, portMapping: false };

before(async () => {
  await world.open();
  removeNamespace(second.name);
  await mustRun(localExec, ["ip", "netns", "add", second.name]);
  await must(router, `ip link add in2 type veth peer name wire netns ${second.name}`);
  for (const [place, link, address] of [
    [router, "in2", "192.168.20.1/24"],
    [second, "wire", "192.168.20.2/24"],
  ] as const) {
    await must(place, `ip address add ${address} dev ${link}`);
    await must(place, `ip link set ${link} up`);
  }
  await must(second, "ip link set lo up");
  await must(second, "ip route add default via 192.168.20.1");
  await must(router, "nft -f -", FORWARD);
});
after(async () => {
  await world.close();
  removeNamespace(second.name);
});

test("the forwarded port is the first one's: a relay's token comes in there, and the second one does not claim it", async () => {
  const [home, cabin] = await Promise.all([world.agent("b", "home", FORWARDED), world.agent("c", "cabin", FORWARDED)]);
  const forward = async (agent: PlacedAgent) => netcheckAnswer.parse(await agent.ask({ do: "netcheck" })).forward;
  const leads = async (agent: PlacedAgent): Promise<string | undefined> => (await forward(agent))?.leads;
  await until("the first one knows", async () => (await leads(home)) === "here");
  await until("the second one knows", async () => (await leads(cabin)) === "elsewhere");
  const endpoint = `${world.publicOf("b")}:51820`;
  assert.deepEqual([(await forward(home))?.endpoint, (await forward(cabin))?.endpoint], [endpoint, endpoint]);
  assert.equal(await leads(home), "here", "the second one's tokens, which came to the first, are none of its");
});

/** An ordinary home router's: what was not asked for is dropped, but for the forward. */
const FORWARD = `table ip nat {}
delete table ip nat
table ip nat {
  chain pre { type nat hook prerouting priority dstnat; iifname "out" udp dport 51820 dnat to 192.168.2.2; }
  chain post { type nat hook postrouting priority srcnat; oifname "out" masquerade random,fully-random; }
  chain input { type filter hook input priority filter; iifname "out" ct state new drop; }
  chain forward { type filter hook forward priority filter; ct status dnat accept; iifname "out" ct state new drop; }
}
`;
