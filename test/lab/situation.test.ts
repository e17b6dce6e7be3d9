import assert from "node:assert/strict";
import { test } from "node:test";
import { describeSituation, situationOptions } from "../../src/cli/labsituation.js";
import { renderLine } from "../../src/lab/line.js";
import { planReshape } from "../../src/lab/reshape.js";
import { parseNatKind, type Situation, situate, situationSchema, USUAL } from "../../src/lab/situation.js";
import { topology } from "../../src/lab/topology.js";

const unusual: Situation = {
  cafe: { nat: "double", link: "direct-cut", lossPercent: 2.5, mtu: 1124, muteTooBig: true },
  home: { nat: "ipv4-only", link: "down", lossPercent: 0, mtu: 1400, muteTooBig: false },
  forward: false,
  upnp: true,
  vps: true,
  laptopAt: "mobile",
};

test("the usual situation is the topology itself, and changes nothing", () => {
  assert.deepEqual(situate(topology, USUAL).links, topology.links);
  assert.deepEqual(planReshape(situate(topology, USUAL), situate(topology, USUAL)), []);
});

test("a situation is read back from its file as it was, and anything else is refused", () => {
  assert.deepEqual(situationSchema.parse(JSON.parse(JSON.stringify(unusual))), unusual);
  assert.equal(situationSchema.safeParse({ ...unusual, weather: "rain" }).success, false);
  assert.equal(situationSchema.safeParse({ ...unusual, laptopAt: "moon" }).success, false);
});

test("options change what they name and nothing else; an unknown kind is told with those there are", () => {
  const change = situationOptions({ homeNat: "ordinary", cafeNat: "symmetric", forward: "no", homeUpnp: true });
  const expected = { ...USUAL, cafe: { ...USUAL.cafe, nat: "symmetric" }, forward: false, upnp: true };
  assert.deepEqual(change(USUAL), expected);
  assert.deepEqual(situationOptions({})(unusual), unusual);
  assert.equal(parseNatKind("ordinary"), "address-and-port-dependent");
  assert.throws(() => parseNatKind("easy"), { code: "usage", message: /ordinary or one of open, .*, got "easy"/ });
  assert.throws(() => situationOptions({ forward: "maybe" }), { code: "usage" });
});

test("what is as usual is not worth a line; everything else is", () => {
  assert.equal(describeSituation(USUAL), "");
  assert.equal(describeSituation(unusual).trimEnd().split("\n").length, 11);
});

test("the laptop's move unplugs it before it plugs it in, and gives it the other network's addresses", () => {
  const steps = planReshape(situate(topology, USUAL), situate(topology, { ...USUAL, laptopAt: "home" }));
  assert.deepEqual(
    steps.map(({ place }) => place),
    ["cafe", "mobile", "home", "laptop"],
  );
  assert.equal(steps[0]?.gone, "link set dev lan-laptop netns exn-home\n");
  assert.match(steps[3]?.wanted ?? "", /address replace 198\.18\.77\.60\/24 dev eth0\n/);
  assert.match(steps[3]?.resolvConf ?? "", /nameserver 198\.18\.77\.1\nsearch home\n/);
  assert.equal(steps[2]?.wanted, "link set dev lan-laptop master lan\nlink set dev lan-laptop up\n");
});

test("a provider's line: loss in ten thousandths, silence, and a NAT of its own", () => {
  const line = { line: "cafe", state: "up", lossPercent: 0 } as const;
  assert.doesNotMatch(renderLine(line), /drop|snat/);
  assert.match(renderLine({ ...line, lossPercent: 2.5 }), /iifname "cafe" numgen random mod 10000 < 250 drop\n/);
  assert.match(renderLine({ ...line, state: "down" }), /iifname "cafe" drop\n[\s\S]*oifname "cafe" drop\n/);
  assert.match(renderLine({ ...line, state: "direct-cut" }), /meta l4proto udp ip6 saddr .* ip6 daddr .* drop\n/);
});
