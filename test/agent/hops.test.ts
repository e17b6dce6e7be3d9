import assert from "node:assert/strict";
import { test } from "node:test";
import { parseTraceroute, placeHops } from "../../src/agent/hops.js";
import { parseCidr, parseIp } from "../../src/kit/ip.js";

const text = `traceroute to whoami.lab (192.0.2.80), 30 hops max, 60 byte packets
 1  home.mesh (100.64.0.1)  10.123 ms
 2  home-router.lab (198.18.77.1)  10.5 ms
 3  gw.home-isp.lab (203.0.113.1)  11 ms
 4  *
 5  core1.internet.lab (192.0.2.1)  12.1 ms
 6  192.0.2.80 (192.0.2.80)  12.9 ms
`;

test("traceroute's lines become hops, a silent one keeps its place, an address repeated as name is no name", () => {
  const hops = parseTraceroute(text);
  assert.deepEqual(
    hops.map(({ ttl, name }) => [ttl, name]),
    [
      [1, "home.mesh"],
      [2, "home-router.lab"],
      [3, "gw.home-isp.lab"],
      [4, undefined],
      [5, "core1.internet.lab"],
      [6, undefined],
    ],
  );
  assert.equal(hops[3]?.address, undefined);
  assert.equal(hops[4]?.roundTripMs, 12.1);
});

test("through an exit the hops are tunnel, the exit's network, its ISP, and beyond", () => {
  const placed = placeHops(parseTraceroute(text), {
    networks: [parseCidr("198.18.88.0/24")],
    exitAddresses: [parseIp("100.64.0.1")],
    publicAddresses: [parseIp("203.0.113.77")],
  });
  assert.deepEqual(
    placed.map(({ where }) => where),
    ["tunnel", "exit's network", "exit's ISP", "silent", "beyond", "beyond"],
  );
});

test("without an exit the near side is this network, also where IPv6 shows no private address", () => {
  const placed = placeHops(
    parseTraceroute(` 1  cafe-router.lab (2001:db8:88:1::1)  0.1 ms
 2  gw.cafe-isp.lab (2001:db8:88::1)  0.2 ms
 3  core1.internet.lab (2001:db8:ffff::1)  0.3 ms
`),
    {
      networks: [parseCidr("2001:db8:88:1::/64")],
      exitAddresses: [],
      publicAddresses: [parseIp("2001:db8:88:1::50")],
    },
  );
  assert.deepEqual(
    placed.map(({ where }) => where),
    ["this network", "this network's ISP", "beyond"],
  );
});
