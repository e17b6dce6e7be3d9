import assert from "node:assert/strict";
import { test } from "node:test";
import { gatewayIn } from "../../src/agent/gateway.js";
import { moveBetween, standingOf } from "../../src/agent/standing.js";
import { formatEndpoint, parseEndpoint } from "../../src/kit/endpoint.js";
import { parseCidr, parseIp } from "../../src/kit/ip.js";
import { keyOf } from "../../src/kit/key.js";
import { judge } from "../../src/nat/stunreport.js";
import type { NetInfo } from "../../src/sys/netinfo.js";
import { agentConfig } from "../../src/wire/agentconfig.js";

/** Where this device is: its router, and the endpoints it tells. */

const at = (name: string, ip: string, network: string) => ({
  interface: name,
  ip: parseIp(ip),
  network: parseCidr(network),
});
const INFO: NetInfo = {
  addresses: [
    at("eth0", "192.168.7.2", "192.168.7.0/24"),
    at("eth0", "2001:db8:7::2", "2001:db8:7::/64"),
    at("wlan0", "192.168.8.2", "192.168.8.0/24"),
    at("exn0", "100.64.0.2", "100.64.0.2/32"),
  ],
  resolvers: [],
};
const gateway = (routes: unknown) => gatewayIn(JSON.stringify(routes), INFO, "exn0");

test("the router is the default route's with the lowest metric, and never the tunnel's", () => {
  const wired = { gateway: "192.168.7.1", dev: "eth0", metric: 100 };
  const wireless = { gateway: "192.168.8.1", dev: "wlan0", metric: 600 };
  assert.deepEqual(gateway([wireless, wired]), { address: "192.168.7.1", client: "192.168.7.2" });
  assert.deepEqual(gateway([{ gateway: "100.64.0.1", dev: "exn0" }, wireless])?.address, "192.168.8.1");
  assert.deepEqual(gateway([{ ...wired, prefsrc: "192.168.7.9" }])?.client, "192.168.7.9");
});

for (const routes of [
  [],
  [{ dev: "exn0" }],
  [{ gateway: "nonsense", dev: "eth0" }],
  [{ gateway: "10.0.0.1", dev: "eth9" }],
  7,
])
  test(`there is no router in ${JSON.stringify(routes)}`, () => assert.equal(gateway(routes), undefined));

test("a machine is elsewhere when it has lost an address, not when it got one more", () => {
  const [one, two] = [parseIp("192.168.7.2"), parseIp("192.168.8.2")];
  assert.equal(moveBetween([one], [one]), "none");
  assert.equal(moveBetween([one], [two, one]), "more");
  assert.equal(moveBetween([one, two], [one]), "elsewhere");
  assert.equal(moveBetween([one], [two]), "elsewhere");
  assert.equal(moveBetween([], [one]), "more");
});

const coordinator = { urls: ["https://127.0.0.1"], publicKey: keyOf(new Uint8Array(32)) };
const config = agentConfig.parse({ name: "home", role: "exit-node", forwardedPort: 40_000, coordinator });
const known = {
  ...{ info: INFO, listenPort: 51_820, seen: {}, stun: undefined, mapped: undefined },
  tunnels: [parseCidr("100.64.0.0/10")],
};

test("peers are told what was proven first, then what STUN saw, then the machine's own addresses", () => {
  const stun = judge(
    [
      { server: parseEndpoint("198.51.100.1:3478"), mapped: parseEndpoint("203.0.113.9:1024"), roundTripMs: 5 },
      { server: parseEndpoint("198.51.100.2:3478"), mapped: parseEndpoint("203.0.113.9:1024"), roundTripMs: 5 },
    ],
    51_820,
    [],
  );
  const { endpoints, nat } = standingOf(config, { ...known, stun, mapped: parseEndpoint("203.0.113.9:50000") });
  assert.deepEqual(endpoints.map(formatEndpoint), [
    "203.0.113.9:40000",
    "203.0.113.9:50000",
    "203.0.113.9:1024",
    "[2001:db8:7::2]:51820",
    "192.168.7.2:51820",
    "192.168.8.2:51820",
  ]);
  assert.equal(nat, "easy");
});

test("before STUN has answered nothing is said of the NAT, and no forwarded port without an address for it", () => {
  const { endpoints, nat } = standingOf(config, known);
  assert.equal(nat, "unknown");
  assert.equal(endpoints.length, 3);
});
