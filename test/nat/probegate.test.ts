import assert from "node:assert/strict";
import { test } from "node:test";
import { keyPairOf } from "../../src/kit/crypto.js";
import { parseEndpoint } from "../../src/kit/endpoint.js";
import { keyOf } from "../../src/kit/key.js";
import { Pathfinder } from "../../src/nat/pathfinder.js";
import { NONCES_MAX, PROBES_MAX, ProbeGate } from "../../src/nat/probegate.js";
import { HEARD_MAX, PINGS_MAX, Pings, Trials } from "../../src/nat/trials.js";
import type { Probe } from "../../src/wire/probe.js";
import { Internet } from "./internet.js";

/** Replays, forgeries and floods: counted, dropped, and nothing grows. */

const { random } = new Internet(1);
const [mine, theirs, stranger] = [keyPairOf(random(32)), keyPairOf(random(32)), keyPairOf(random(32))];

function pair(): { gate: ProbeGate; peer: ProbeGate; unknown: ProbeGate } {
  const gate = new ProbeGate(mine, random);
  gate.setPeers([{ peer: "p", discoveryKey: keyOf(theirs.publicKey) }]);
  const [peer, unknown] = [new ProbeGate(theirs, random), new ProbeGate(stranger, random)];
  for (const one of [peer, unknown]) one.setPeers([{ peer: "me", discoveryKey: keyOf(mine.publicKey) }]);
  return { gate, peer, unknown };
}

const ping = (): Probe => ({ kind: "ping", transaction: random(12), padding: 0 });
const sealed = (gate: ProbeGate): Uint8Array => gate.seal("me", ping()) ?? assert.fail("no such peer");

test("a peer's probe is let in once, and its replay is dropped and counted", () => {
  const { gate, peer } = pair();
  const datagram = sealed(peer);
  assert.equal(gate.open(datagram, 0)?.peer, "p");
  assert.equal(gate.open(datagram, 1), undefined);
  assert.deepEqual(gate.counts, { accepted: 1, malformed: 0, unknown: 0, forged: 0, replayed: 1, flooded: 0 });
});

test("a stranger, a forger in a peer's name, one's own probe come back and garbage are dropped, each by its count", () => {
  const { gate, peer, unknown } = pair();
  assert.equal(gate.open(sealed(unknown), 0), undefined);
  const forged = sealed(unknown);
  forged.set(theirs.publicKey, 4);
  assert.equal(gate.open(forged, 0), undefined);
  const mirrored = gate.seal("p", ping()) ?? assert.fail("no such peer");
  assert.equal(gate.open(mirrored, 0), undefined);
  const disguised = mirrored.slice();
  disguised.set(theirs.publicKey, 4);
  assert.equal(gate.open(disguised, 0), undefined);
  assert.equal(gate.open(random(200), 0), undefined);
  assert.deepEqual(gate.counts, { accepted: 0, malformed: 1, unknown: 2, forged: 2, replayed: 0, flooded: 0 });
  assert.equal(gate.open(sealed(peer), 0)?.peer, "p");
});

test("a peer's flood is cut at 600 probes, and it is heard again a second later; a forger does not use up its share", () => {
  const { gate, peer, unknown } = pair();
  const forged = sealed(unknown);
  forged.set(theirs.publicKey, 4);
  for (let i = 0; i < 2_000; i++) gate.open(forged, 0);
  for (let i = 0; i < PROBES_MAX.burst + 100; i++) gate.open(sealed(peer), 0);
  assert.deepEqual([gate.counts.accepted, gate.counts.flooded], [PROBES_MAX.burst, 100]);
  assert.equal(gate.open(sealed(peer), 1_000)?.peer, "p");
});

test("a replay is known among the last 1024 nonces, and survives a new list of peers", () => {
  const { gate, peer } = pair();
  const datagram = sealed(peer);
  gate.open(datagram, 0);
  for (let i = 1; i < NONCES_MAX; i++) gate.open(sealed(peer), i * 10);
  gate.setPeers([{ peer: "p", discoveryKey: keyOf(theirs.publicKey) }]);
  assert.equal(gate.open(datagram, 1e6), undefined);
  assert.equal(gate.counts.replayed, 1);
});

test("a peer that left the map can neither send nor be sent to", () => {
  const { gate, peer } = pair();
  gate.setPeers([]);
  assert.equal(gate.open(sealed(peer), 0), undefined);
  assert.equal(gate.seal("p", ping()), undefined);
});

test("pings from a thousand sources leave eight of them to be tried, and at most one ping each", () => {
  const path = new Pathfinder(random, [], 0);
  for (let i = 0; i < 1_000; i++) {
    const from = parseEndpoint(`198.51.100.${i % 250}:${1_000 + i}`);
    path.receive(ping(), { kind: "direct", from, socket: undefined }, i);
  }
  assert.ok(path.counts.pingsSent <= 1_000);
  const before = path.counts.pingsSent;
  path.setRelay(true, 2_000);
  path.traffic(2_000);
  assert.ok(path.counts.pingsSent - before <= HEARD_MAX);
});

test("calls beyond six at once and one a second are ignored and counted", () => {
  const path = new Pathfinder(random, [], 0);
  const call: Probe = { kind: "call-me-maybe", nat: "easy", endpoints: [parseEndpoint("203.0.113.7:9")] };
  for (let i = 0; i < 100; i++) path.receive(call, { kind: "relay" }, i);
  assert.equal(path.counts.callsIgnored, 94);
});

test("a call that comes directly, and a ping or pong through the relay, are not what they should be", () => {
  const path = new Pathfinder(random, [], 0);
  const from = parseEndpoint("203.0.113.7:9");
  const effects = [
    path.receive(ping(), { kind: "relay" }, 0),
    path.receive({ kind: "pong", transaction: random(12), source: from }, { kind: "relay" }, 0),
    path.receive(
      { kind: "call-me-maybe", nat: "easy", endpoints: [from] },
      { kind: "direct", from, socket: undefined },
      0,
    ),
  ];
  assert.deepEqual(effects.flat(), []);
  assert.equal(path.counts.misplaced, 3);
});

test("a pong proves a path only with the transaction of a ping to that very endpoint, within 5 s, once", () => {
  const pings = new Pings();
  const [to, other] = [parseEndpoint("203.0.113.7:9"), parseEndpoint("203.0.113.8:9")];
  const transaction = random(12);
  pings.add(transaction, { to, socket: undefined, sentAt: 0, measures: 0 });
  assert.equal(pings.take(random(12), to, undefined, 10), undefined);
  assert.equal(pings.take(transaction, other, undefined, 10), undefined);
  assert.equal(pings.take(transaction, to, 3, 10), undefined);
  assert.equal(pings.take(transaction, to, undefined, 5_001), undefined);
  assert.ok(pings.take(transaction, to, undefined, 4_999) !== undefined);
  assert.equal(pings.take(transaction, to, undefined, 4_999), undefined);
});

test("ten thousand pings without answer leave at most 1024 remembered", () => {
  const pings = new Pings();
  const to = parseEndpoint("203.0.113.7:9");
  for (let i = 0; i < 10_000; i++) pings.add(random(12), { to, socket: undefined, sentAt: i / 100, measures: 0 });
  assert.ok(pings.size <= PINGS_MAX);
});

test("a proven source is not pushed out by unproven ones", () => {
  const trials = new Trials();
  const proven = trials.hear(parseEndpoint("203.0.113.7:9"), undefined);
  proven.pong = { at: 1, roundTripMs: 1 };
  for (let i = 1; i < 100; i++) trials.hear(parseEndpoint(`198.51.100.${i}:9`), undefined);
  assert.ok(trials.all.includes(proven) && trials.all.length === HEARD_MAX);
});
