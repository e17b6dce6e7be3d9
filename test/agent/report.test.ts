import assert from "node:assert/strict";
import { test } from "node:test";
import { describeDevice } from "../../src/agent/report.js";
import type { Known, PublicAddresses } from "../../src/agent/standing.js";
import { parseCidr, parseIp } from "../../src/kit/ip.js";
import { keyOf } from "../../src/kit/key.js";
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
