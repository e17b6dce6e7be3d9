import assert from "node:assert/strict";
import { test } from "node:test";
import { describeDevice } from "../../src/agent/report.js";
import type { Known, PublicAddresses } from "../../src/agent/standing.js";
import { parseEndpoint } from "../../src/kit/endpoint.js";
import { parseCidr, parseIp } from "../../src/kit/ip.js";
import { keyOf } from "../../src/kit/key.js";
import { judge } from "../../src/nat/stunreport.js";
import type { NetInfo } from "../../src/sys/netinfo.js";
import { agentConfig } from "../../src/wire/agentconfig.js";

const base = { name: "home", coordinator: { urls: ["https://127.0.0.1"], publicKey: keyOf(new Uint8Array(32)) } };
const exit = agentConfig.parse({ ...base, role: "exit-node", forwardedPort: 51820 });
const device = agentConfig.parse({ ...base, role: "device" });
const at = (name: string, ip: string, network: string) => ({
  interface: name,
  ip: parseIp(ip),
  network: parseCidr(network),
});
const container: NetInfo = {
  addresses: [
    at("eth0", "198.18.77.50", "198.18.77.0/24"),
    at("eth0", "2001:db8:77:1::50", "2001:db8:77:1::/64"),
    at("eth0", "fe80::1", "fe80::/64"),
    at("exn0", "100.64.0.1", "100.64.0.1/32"),
  ],
  resolvers: [parseIp("198.18.77.1"), parseIp("127.0.0.53"), parseIp("fe80::1")],
};

const known = (info: NetInfo, seen: PublicAddresses): Known => ({
  ...{ info, seen, listenPort: 51_820 },
  ...{ stun: undefined, mapped: undefined, tunnels: [parseCidr("100.64.0.0/10")] },
});

test("the forwarded public endpoint comes first, then global addresses, then private ones; never the tunnel's own", () => {
  const report = describeDevice(exit, known(container, { ipv4: parseIp("203.0.113.77") }), {});
  assert.deepEqual(report.endpoints, ["203.0.113.77:51820", "[2001:db8:77:1::50]:51820", "198.18.77.50:51820"]);
});

test("a forwarded port that leads elsewhere is not told, and one that leads here is open to strangers", () => {
  const at = (forward: "untried" | "here" | "elsewhere") =>
    describeDevice(exit, { ...known(container, { ipv4: parseIp("203.0.113.77") }), forward }, {});
  const forwarded = "203.0.113.77:51820";
  assert.deepEqual([at("untried").endpoints[0], at("untried").open], [forwarded, undefined]);
  assert.deepEqual([at("here").endpoints[0], at("here").open], [forwarded, [forwarded]]);
  assert.deepEqual([at("elsewhere").endpoints.includes(forwarded), at("elsewhere").open], [false, undefined]);
  const stun = judge(
    ["198.51.100.1:3478", "198.51.100.2:3478"].map((server, i) => ({
      ...{ server: parseEndpoint(server), mapped: parseEndpoint(`203.0.113.77:${4_000 + 7 * i}`), roundTripMs: 5 },
    })),
    51_820,
    [],
  );
  const chosen = { ...known(container, {}), stun };
  assert.equal(describeDevice({ ...exit, forwardedPort: undefined }, chosen, {}).endpoints.includes(forwarded), true);
  const refuted = describeDevice(exit, { ...chosen, forward: "elsewhere" }, {});
  assert.equal(refuted.endpoints.includes(forwarded), false, "nor as a guess");
});

test("open to strangers are an exit node's proven mapping and its own public IPv4 address, and no device's anything", () => {
  const mapped = parseEndpoint("203.0.113.77:40001");
  const rented: NetInfo = {
    addresses: [at("eth0", "203.0.113.5", "203.0.113.0/24"), at("eth0", "2001:db8::5", "2001:db8::/64")],
    resolvers: [],
  };
  assert.deepEqual(describeDevice(exit, { ...known(container, {}), mapped }, {}).open, ["203.0.113.77:40001"]);
  assert.deepEqual(describeDevice(exit, known(rented, {}), {}).open, ["203.0.113.5:51820"]);
  assert.equal(describeDevice(exit, known(container, {}), {}).open, undefined);
  assert.equal(describeDevice(device, { ...known(rented, {}), mapped }, {}).open, undefined);
});

test("an exit node offers IPv6 only where it has some", () => {
  assert.deepEqual(describeDevice(exit, known(container, {}), {}).routes, ["0.0.0.0/0", "::/0"]);
  const four = { ...container, addresses: container.addresses.slice(0, 1) };
  assert.deepEqual(describeDevice(exit, known(four, {}), {}).routes, ["0.0.0.0/0"]);
});

test("a resolver that nobody else can reach is not offered", () => {
  assert.deepEqual(describeDevice(exit, known(container, {}), {}).resolvers, ["198.18.77.1"]);
});

test("a device that is no exit node offers neither routes nor resolvers", () => {
  const { routes, resolvers } = describeDevice(device, known(container, {}), {});
  assert.deepEqual([routes, resolvers], [[], []]);
});
