import assert from "node:assert/strict";
import { test } from "node:test";
import { describeSituation, situationOptions } from "../../src/cli/labsituation.js";
import { renderLine } from "../../src/lab/line.js";
import { planReshape } from "../../src/lab/reshape.js";
import { servicesOf } from "../../src/lab/services.js";
import { parseNatKind, type Situation, situate, situationSchema, USUAL } from "../../src/lab/situation.js";
import { topology } from "../../src/lab/topology.js";

const unusual: Situation = {
  cafe: { nat: "double", link: "direct-cut", lossPercent: 2.5, mtu: 1124, muteTooBig: true },
  home: { nat: "ipv4-only", link: "down", lossPercent: 0, mtu: 1400, muteTooBig: false },
  forward: false,
  upnp: true,
  vps: true,
  laptopAt: "mobile",
  hosts: 3,
  cluster: true,
  pveVersion: "8.4",
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
  assert.equal(describeSituation(unusual).trimEnd().split("\n").length, 13);
});

test("a file of an earlier version, without hosts, is one host of the newest release", () => {
  const { hosts: _, cluster: __, pveVersion: ___, ...earlier } = USUAL;
  assert.deepEqual(situationSchema.parse(earlier), USUAL);
});

test("more hosts stand beside the first on the home's LAN, with addresses and wires of their own", () => {
  const four = situate(topology, { ...USUAL, hosts: 4 });
  const added = four.places.filter(({ name }) => !topology.places.some((place) => place.name === name));
  assert.deepEqual(
    added.map(({ name, devices }) => [name, devices.flatMap(({ addresses }) => addresses)]),
    [
      ["pve2", ["198.18.77.11/24", "2001:db8:77:1::11/64"]],
      ["pve3", ["198.18.77.12/24", "2001:db8:77:1::12/64"]],
      ["pve4", ["198.18.77.13/24", "2001:db8:77:1::13/64"]],
    ],
  );
  const lan = four.places.find(({ name }) => name === "home")?.devices.find(({ name }) => name === "lan");
  assert.deepEqual(lan?.ports, ["lan-pve1", "lan-nas", "lan-pve2", "lan-pve3", "lan-pve4"]);
  assert.equal(four.links.length, topology.links.length + 3);
  const daemons = servicesOf(four, { ...USUAL, hosts: 4, cluster: true, pveVersion: "8.4" }, []);
  const third = daemons.find(({ name }) => name === "pve3");
  assert.deepEqual(third?.argv, ["lab", "serve-pve", "pve3", "--cluster", "4"]);
  assert.equal(third?.files["/var/lib/exitnode-lab/pve3/release"], "8.4\n");
});

test("options that make no lab are refused", () => {
  for (const hosts of ["0", "5", "1.5", "two"]) assert.throws(() => situationOptions({ hosts }), { code: "usage" });
  assert.throws(() => situationOptions({ pveVersion: "7.4" }), { code: "usage", message: /9\.2, 8\.4/ });
  assert.throws(() => situationOptions({ cluster: true })(USUAL), { code: "usage", message: /two Proxmox hosts/ });
  const { hosts, cluster } = situationOptions({ hosts: "2", cluster: true })(USUAL);
  assert.deepEqual([hosts, cluster], [2, true]);
});

test("a router whose NAT or forwards change forgets its connections; loss, a cut line and MTU keep them", () => {
  const forgetful = (change: Partial<Situation>): string[] =>
    planReshape(situate(topology, USUAL), situate(topology, { ...USUAL, ...change })).flatMap((step) =>
      step.forgetConnections ? [step.place] : [],
    );
  assert.deepEqual(forgetful({ cafe: { ...USUAL.cafe, nat: "symmetric" } }), ["cafe"]);
  assert.deepEqual(forgetful({ cafe: { ...USUAL.cafe, nat: "double" } }), ["cafe", "cafe-isp"]);
  assert.deepEqual(forgetful({ forward: false }), ["home"]);
  const line = { ...USUAL.cafe, link: "direct-cut", lossPercent: 5, mtu: 1300, muteTooBig: true } as const;
  assert.deepEqual(forgetful({ cafe: line }), []);
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
