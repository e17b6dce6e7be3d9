import assert from "node:assert/strict";
import { test } from "node:test";
import { formatEndpoint, parseEndpoint } from "../../src/kit/endpoint.js";
import { type Cidr, parseIp } from "../../src/kit/ip.js";
import { EasySide } from "../../src/nat/birthday.js";
import { gatherCandidates, usableCandidates } from "../../src/nat/candidates.js";
import { type Obstacle, whyRelayed } from "../../src/nat/path.js";
import { isBetter } from "../../src/nat/pathchoice.js";
import { fittingMtu, MtuSearch, TUNNEL_MTU_MAX, tunnelMtu } from "../../src/nat/pathmtu.js";
import { chooseHome, RelayLatencies } from "../../src/nat/relaychoice.js";
import { judge } from "../../src/nat/stunreport.js";
import { systemRandom } from "../../src/sys/random.js";

/** Candidates, the choice among paths and relays, path MTU, and the words for all of it. */

const TUNNELS = ["100.96.0.0/16", "fd00:aaaa::/48"] as Cidr[];
const ips = (...texts: string[]) => texts.map(parseIp);
const endpoints = (...texts: string[]) => texts.map(parseEndpoint);
const SERVERS = endpoints("192.0.2.1:3478", "192.0.2.1:3479", "192.0.2.2:3478");
const stunOf = (...mapped: string[]) =>
  judge(
    SERVERS.map((server, i) => ({ server, mapped: parseEndpoint(mapped[i] ?? ""), roundTripMs: 1 })),
    51_820,
    [],
  );

test("candidates stand in the order configured, portmap, stun, local, predicted; each endpoint once", () => {
  const found = gatherCandidates({
    locals: ips("192.168.1.20", "2001:db8::20"),
    port: 51_820,
    stun: stunOf("203.0.113.7:100", "203.0.113.7:101", "203.0.113.7:102"),
    portmaps: endpoints("203.0.113.7:51820"),
    configured: endpoints("198.51.100.9:51820"),
    tunnels: TUNNELS,
  });
  assert.deepEqual(
    found.map(({ origin, endpoint }) => `${origin} ${formatEndpoint(endpoint)}`),
    [
      "configured 198.51.100.9:51820",
      "portmap 203.0.113.7:51820",
      "stun 203.0.113.7:100",
      "stun 203.0.113.7:101",
      "stun 203.0.113.7:102",
      "local [2001:db8::20]:51820",
      "local 192.168.1.20:51820",
      ...[103, 104, 105, 106, 107, 108].map((port) => `predicted 203.0.113.7:${port}`),
    ],
  );
});

test("tunnel addresses, loopback, link-local, multicast and unspecified addresses are nobody's candidates", () => {
  const no = [
    "100.96.3.4",
    "fd00:aaaa::1",
    "127.0.0.1",
    "::1",
    "169.254.1.1",
    "fe80::1",
    "224.0.0.1",
    "ff02::1",
    "0.0.0.0",
    "::",
  ];
  const locals = ips(...no, "10.0.0.5");
  const found = gatherCandidates({ locals, port: 9, tunnels: TUNNELS });
  assert.deepEqual(
    found.map(({ endpoint }) => endpoint.address),
    ["10.0.0.5"],
  );
  const listed = locals.map((address) => ({ address, port: 9 }));
  assert.deepEqual(usableCandidates(listed, TUNNELS), endpoints("10.0.0.5:9"));
});

test("a mapping on a carrier's or private address is left out, a carrier's local address comes last", () => {
  const found = gatherCandidates({
    locals: ips("100.64.7.7", "192.168.1.20"),
    port: 9,
    portmaps: endpoints("100.64.7.7:51820", "192.168.0.2:51820"),
    tunnels: TUNNELS,
  });
  assert.deepEqual(
    found.map(({ endpoint }) => endpoint.address),
    ["192.168.1.20", "100.64.7.7"],
  );
});

test("forty container bridges leave room for what STUN saw, and the list ends at sixteen", () => {
  const locals = Array.from({ length: 40 }, (_, i) => parseIp(`172.${16 + (i % 16)}.${i}.1`));
  const found = gatherCandidates({
    locals,
    port: 9,
    stun: stunOf("203.0.113.7:1", "203.0.113.7:2", "203.0.113.7:3"),
    tunnels: TUNNELS,
  });
  assert.equal(found.length, 16);
  assert.equal(found.filter(({ origin }) => origin === "stun").length, 3);
  assert.equal(found.filter(({ origin }) => origin === "local").length, 8);
});

for (const [challenger, current, better] of [
  ["203.0.113.7:9 20", "203.0.113.8:9 40", true],
  ["203.0.113.7:9 39", "203.0.113.8:9 40", false],
  ["203.0.113.7:9 40", "203.0.113.8:9 20", false],
  ["192.168.1.2:9 20", "203.0.113.8:9 20", true],
  ["203.0.113.8:9 19", "192.168.1.2:9 20", false],
  ["[2001:db8::1]:9 20", "203.0.113.8:9 20", true],
  ["203.0.113.8:9 20", "[2001:db8::1]:9 20", false],
  ["203.0.113.8:9 10", "[2001:db8::1]:9 20", true],
] as const)
  test(`${challenger} ms ${better ? "replaces" : "does not replace"} ${current} ms`, () => {
    const way = (text: string) => {
      const [endpoint = "", roundTrip] = text.split(" ");
      return { endpoint: parseEndpoint(endpoint), roundTripMs: Number(roundTrip) };
    };
    assert.equal(isBetter(way(challenger), way(current)), better);
  });

for (const [home, latencies, chosen] of [
  [undefined, { a: 50, b: 20 }, "b"],
  ["a", { a: 50, b: 20 }, "b"],
  ["a", { a: 29, b: 20 }, "a"],
  ["a", { a: 100, b: 70 }, "a"],
  ["a", { a: 30, b: 20 }, "a"],
  ["a", { a: 31, b: 20 }, "b"],
  ["a", { b: 90 }, "b"],
  ["a", {}, "a"],
] as const)
  test(`from home ${home ?? "nowhere"} with ${JSON.stringify(latencies)}: ${chosen}`, () => {
    const list = Object.entries(latencies).map(([relay, roundTripMs]) => ({ relay, roundTripMs }));
    assert.equal(chooseHome(list, home, true), chosen);
    if (home !== undefined) assert.equal(chooseHome(list, home, false), home);
  });

test("latencies older than five minutes are forgotten, and the best of the younger counts", () => {
  const latencies = new RelayLatencies();
  latencies.add("a", 5, 0);
  latencies.add("a", 30, 200_000);
  latencies.add("a", 20, 250_000);
  assert.deepEqual(latencies.best(290_000), [{ relay: "a", roundTripMs: 5 }]);
  assert.deepEqual(latencies.best(300_000), [{ relay: "a", roundTripMs: 20 }]);
  for (let i = 0; i < 1_000; i++) latencies.add("b", i, 300_000);
  assert.ok(latencies.best(300_000).length <= 2);
});

for (const [family, real] of [
  [4, 1_500],
  [4, 1_492],
  [4, 1_420],
  [4, 1_280],
  [4, 1_124],
  [4, 576],
  [6, 1_500],
  [6, 1_280],
] as const)
  test(`an IPv${family} path of ${real} bytes is found to within 4 bytes in under 15 s, never above`, () => {
    const search = new MtuSearch(family, 30, 0);
    let now = 0;
    for (; search.deadline !== undefined; now = Math.max(now, search.deadline ?? now)) {
      const size = search.tick(now);
      if (size !== undefined && size <= real) search.passed(size, now + 30);
    }
    const found = search.found ?? 0;
    assert.ok(found <= real && found > real - 4, `${found}`);
    assert.ok(now < 15_000, `${now} ms`);
  });

test("a path of 1500 bytes is known after one ping, and carries 1440 bytes of tunnel over IPv4, 1420 over IPv6", () => {
  const search = new MtuSearch(4, 30, 0);
  assert.equal(search.tick(0), 1_500);
  search.passed(1_500, 30);
  assert.equal(search.found, 1_500);
  assert.deepEqual([tunnelMtu(1_500, 4), tunnelMtu(1_500, 6)], [1_440, 1_420]);
});

for (const late of [1_500, 1_420])
  test(`an answer for ${late} bytes that comes after the search took them for lost is believed`, () => {
    const search = new MtuSearch(4, 30, 0);
    let now = 0;
    for (; search.deadline !== undefined; now = search.deadline ?? now) search.tick(now);
    assert.equal(search.found, 576);
    search.passed(late, now);
    for (; search.deadline !== undefined; now = search.deadline ?? now) search.tick(now);
    const { found = 0 } = search;
    assert.ok(found >= late && found < late + 4, `${found}`);
  });

test("a tunnel's packets fit the narrowest measured path, and never get smaller than the network's least", () => {
  assert.equal(fittingMtu([1_440, 1_340], 1_280), 1_340);
  assert.equal(fittingMtu([1_064, 1_420], 1_280), 1_280);
  assert.equal(fittingMtu([8_900], 1_280), TUNNEL_MTU_MAX);
  assert.equal(fittingMtu([1_420], 9_000), 9_000, "who has set more for the network wants it");
});

test("every obstacle has words and help, and neither ends in a full stop", () => {
  const obstacles: Obstacle[] = [
    { kind: "udp-blocked-here" },
    { kind: "udp-blocked-there" },
    { kind: "no-common-family" },
    { kind: "no-endpoints" },
    { kind: "both-hard" },
    { kind: "no-answer", from: endpoints("203.0.113.7:1", "203.0.113.7:2", "203.0.113.7:3", "203.0.113.7:4") },
  ];
  for (const why of obstacles)
    for (const text of Object.values(whyRelayed(why))) assert.match(text, /^[a-zA-Z].{15,}[^.]$/);
  const [last] = obstacles.slice(-1);
  assert.ok(last !== undefined);
  assert.equal(whyRelayed(last).words, "no answer from 203.0.113.7:1, 203.0.113.7:2, 203.0.113.7:3 and 1 more");
});

test("timers that ring late cost no guesses: there are as many in the end, and never a crowd at once", () => {
  for (const lateMs of [0, 30, 60]) {
    const side = new EasySide(ips("203.0.113.7"), systemRandom, 0);
    const steps: number[] = [];
    for (let now = 0; now < 18_000; now = side.deadline + (steps.length === 50 ? 700 : lateMs))
      steps.push(side.tick(now).length);
    const sent = steps.reduce((sum, step) => sum + step);
    assert.ok(sent >= 1_770 && sent <= 1_810, `${sent} guesses, ${lateMs} ms late`);
    assert.ok(Math.max(...steps) <= 20, `${Math.max(...steps)} at once`);
  }
});
