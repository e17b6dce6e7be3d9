import assert from "node:assert/strict";
import { test } from "node:test";
import { type Endpoint, parseEndpoint } from "../../src/kit/endpoint.js";
import { parseIp } from "../../src/kit/ip.js";
import { describeNat, natKindOf } from "../../src/nat/natkind.js";
import { decodeStunRequest, encodeStunResponse } from "../../src/nat/stun.js";
import { STUN_ROUND_MS, StunRound } from "../../src/nat/stunclient.js";
import { judge, type StunSample } from "../../src/nat/stunreport.js";
import { Internet } from "./internet.js";
import { Lab, type Situation, type Stun } from "./situations.js";

const SERVERS = ["192.0.2.1:3478", "192.0.2.1:3479", "192.0.2.2:3478"].map(parseEndpoint);
const LOCAL = { port: 51_820, addresses: [parseIp("192.168.1.20")] };
const ME = parseEndpoint("203.0.113.7:51820");
const random = new Internet(1).random;

const samplesOf = (...mapped: readonly (string | undefined)[]): StunSample[] =>
  SERVERS.map((server, i) => {
    const text = mapped[i];
    return { server, mapped: text === undefined ? undefined : parseEndpoint(text), roundTripMs: 20 };
  });

for (const { name, mapped, mapping, kind, words } of [
  {
    name: "one endpoint for three servers",
    mapped: ["203.0.113.7:9", "203.0.113.7:9", "203.0.113.7:9"],
    mapping: "endpoint-independent",
    kind: "easy",
    words: /^endpoint-independent mapping$/,
  },
  {
    name: "another port per address",
    mapped: ["203.0.113.7:9", "203.0.113.7:9", "203.0.113.7:700"],
    mapping: "address-dependent",
    kind: "hard",
    words: /^address-dependent mapping/,
  },
  {
    name: "another port per port",
    mapped: ["203.0.113.7:9", "203.0.113.7:5000", "203.0.113.7:700"],
    mapping: "address-and-port-dependent",
    kind: "hard",
    words: /ports without a pattern$/,
  },
  {
    name: "the next port for each",
    mapped: ["203.0.113.7:9", "203.0.113.7:11", "203.0.113.7:13"],
    mapping: "address-and-port-dependent",
    kind: "hard",
    words: /ports in steps of 2$/,
  },
  {
    name: "one's own address",
    mapped: ["192.168.1.20:51820", "192.168.1.20:51820", undefined],
    mapping: "none",
    kind: "open",
    words: /^no NAT/,
  },
  { name: "one answer", mapped: ["203.0.113.7:9"], mapping: "unknown", kind: "unknown", words: /a single STUN port/ },
  { name: "no answer", mapped: [], mapping: "unknown", kind: "blocked", words: /^UDP is blocked$/ },
] as const)
  test(`${name}: the mapping is ${mapping}, the NAT ${kind}`, () => {
    const report = judge(samplesOf(...mapped), LOCAL.port, LOCAL.addresses);
    assert.equal(report.mapping, mapping);
    assert.equal(natKindOf(report), kind);
    assert.match(describeNat(report).is, words);
  });

test("a NAT that counts has its next six ports foretold, and one that does not has none", () => {
  const counting = judge(samplesOf("203.0.113.7:100", "203.0.113.7:102", "203.0.113.7:104"), 51_820, []);
  assert.deepEqual(
    counting.predicted.map(({ port }) => port),
    [106, 108, 110, 112, 114, 116],
  );
  assert.deepEqual(judge(samplesOf("203.0.113.7:100", "203.0.113.7:900", "203.0.113.7:104"), 51_820, []).predicted, []);
});

test("the difference between local and mapped port is told", () => {
  const report = judge(samplesOf("203.0.113.7:51830", "203.0.113.7:51830"), 51_820, []);
  assert.deepEqual([report.portDelta, report.portKept], [10, false]);
});

const pairOf = (server: string, ...mapped: readonly (string | undefined)[]): StunSample[] =>
  mapped.map((text, i) => ({
    server: parseEndpoint(`${server}:${3_478 + i}`),
    mapped: text === undefined ? undefined : parseEndpoint(text),
    roundTripMs: text === undefined ? undefined : 20,
  }));

for (const { name, samples, kind, is, means } of [
  {
    name: "two ports of one server that see the same",
    samples: pairOf("192.0.2.1", "203.0.113.7:9", "203.0.113.7:9"),
    kind: "easy",
    is: "endpoint-independent mapping, as far as one server can tell",
    means: /unless the port changes with the address: a relay elsewhere would show that$/,
  },
  {
    name: "two ports of one server that see different ports",
    samples: pairOf("192.0.2.1", "203.0.113.7:9", "203.0.113.7:12"),
    kind: "hard",
    is: "address-and-port-dependent mapping",
    means: /^the port changes per destination/,
  },
  {
    name: "a second port that does not answer",
    samples: pairOf("192.0.2.1", "203.0.113.7:9", undefined),
    kind: "unknown",
    is: "not known: a single STUN port answered, and a NAT's kind shows in the difference",
    means: /^no answer from 192\.0\.2\.1:3479: a firewall before the relay may have to let in udp\/3479$/,
  },
  {
    name: "a relay in one's own network, behind the same router",
    samples: [
      ...pairOf("203.0.113.7", undefined, undefined),
      ...pairOf("192.168.1.50", "192.168.1.20:51820", "192.168.1.20:51820"),
    ],
    kind: "unknown",
    is: "not known: only a relay in this network answered, which does not see what the router does",
    means: /^a relay elsewhere would show it$/,
  },
  {
    name: "a relay in one's own network, whose public side answers too",
    samples: [
      ...pairOf("203.0.113.7", "203.0.113.7:9", "203.0.113.7:12"),
      ...pairOf("192.168.1.50", "192.168.1.20:51820", "192.168.1.20:51820"),
    ],
    kind: "hard",
    is: "address-and-port-dependent mapping",
    means: /^the port changes per destination/,
  },
] as const)
  test(`${name}: the NAT is ${kind}, and the words say no more than that`, () => {
    const report = judge(samples, LOCAL.port, LOCAL.addresses);
    assert.deepEqual([natKindOf(report), report.blocked], [kind, false]);
    assert.equal(describeNat(report).is, is);
    assert.match(describeNat(report).means, means);
  });

for (const [situation, mapping] of [
  ["open", "none"],
  ["endpoint-independent", "endpoint-independent"],
  ["IPv4 only", "endpoint-independent"],
  ["double NAT", "endpoint-independent"],
  ["symmetric", "address-and-port-dependent"],
  ["sequential", "address-and-port-dependent"],
  ["UDP blocked", "unknown"],
  ["IPv6 only", "none"],
] satisfies [Situation, string][])
  test(`in the simulated Internet, ${situation} is found to be ${mapping}`, () => {
    const lab = new Lab(situation, "open", 1).start().run(4_000);
    assert.equal(lab.left.report?.mapping, mapping);
    assert.equal(lab.left.report?.blocked, situation === "UDP blocked");
  });

for (const [situation, kinds] of [
  ["open", ["open", "open"]],
  ["IPv4 only", ["unknown", "easy"]],
  ["double NAT", ["unknown", "easy"]],
  ["symmetric", ["unknown", "hard"]],
  ["sequential", ["unknown", "hard"]],
] satisfies [Situation, [string, string]][])
  test(`in the simulated Internet with one relay, ${situation} is ${kinds[0]} by one STUN port and ${kinds[1]} by two`, () => {
    const kindBy = (stun: Stun) => {
      const { report } = new Lab(situation, "open", 1, 0, stun).start().run(4_000).left;
      return report === undefined ? "no report" : natKindOf(report);
    };
    assert.deepEqual([kindBy("one port"), kindBy("two ports")], kinds);
  });

const answer = (datagram: Uint8Array, from: Endpoint): Uint8Array =>
  encodeStunResponse(decodeStunRequest(datagram) ?? assert.fail("not a request"), from);

test("a server that does not answer is asked at 0, 100, 200, 400, 800 and 1600 ms, and the round ends after 3 s", () => {
  const round = new StunRound(SERVERS.slice(0, 1), LOCAL, random, 0);
  const times: number[] = [];
  while (round.report === undefined) {
    const at = round.deadline ?? assert.fail("no deadline");
    for (const _ of round.tick(at)) times.push(at);
    if (round.report !== undefined) assert.equal(at, STUN_ROUND_MS);
  }
  assert.deepEqual(times, [0, 100, 200, 400, 800, 1_600]);
  assert.ok(round.report.blocked);
});

test("an answer with another transaction, or from somebody else, changes nothing", () => {
  const round = new StunRound(SERVERS.slice(0, 1), LOCAL, random, 0);
  const [sent] = round.tick(0);
  assert.ok(sent !== undefined);
  const good = answer(sent.datagram, ME);
  assert.equal(round.receive(good, parseEndpoint("192.0.2.66:3478"), 10), false);
  const other = good.slice();
  other[10] = (other[10] ?? 0) ^ 1;
  assert.equal(round.receive(other, sent.to, 10), false);
  assert.notEqual(round.deadline, undefined);
  assert.equal(round.receive(good, sent.to, 25), true);
  assert.deepEqual(round.report?.samples[0], { server: sent.to, mapped: ME, roundTripMs: 25 });
});

test("when all but one have answered, the last is waited for 300 ms, not 3 s", () => {
  const round = new StunRound(SERVERS, LOCAL, random, 0);
  for (const { to, datagram } of round.tick(0).slice(0, 2)) round.receive(answer(datagram, ME), to, 30);
  let now = 0;
  for (; round.deadline !== undefined; round.tick(now)) now = round.deadline;
  assert.equal(now, 330);
  assert.equal(round.report?.mapping, "endpoint-independent");
});
