import assert from "node:assert/strict";
import { test } from "node:test";
import { tellsOfNat } from "../../src/agent/netcheck.js";
import { HOME_WAIT_MS, Relays } from "../../src/agent/relays.js";
import { keyPairOf } from "../../src/kit/crypto.js";
import { parseEndpoint } from "../../src/kit/endpoint.js";
import { Failure } from "../../src/kit/failure.js";
import { keyOf } from "../../src/kit/key.js";
import { MINUTE, SECOND } from "../../src/kit/time.js";
import { systemRandom } from "../../src/sys/random.js";
import { ADMISSION_LIFETIME_MS, issueAdmission } from "../../src/wire/admission.js";
import type { MapRelay } from "../../src/wire/map.js";
import { LabClock } from "./labclock.js";

const KEYS = keyPairOf(systemRandom(32));
const PEER = keyOf(systemRandom(32));
const relay = (id: string): MapRelay => ({
  ...{ id, name: `${id} relay`, url: `https://${id}.example`, stunPort: 3_478 },
  relayKey: keyOf(KEYS.publicKey),
});
const [NEAR, FAR] = [relay("near"), relay("far")];

/** Relays that nobody answers at: what is looked at is who is dialed. */
class Bench {
  readonly clock = new LabClock();
  readonly dialed: string[] = [];
  changes = 0;
  readonly relays = new Relays(
    {
      clock: this.clock,
      random: systemRandom,
      log: { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined },
      dialRelay: async (url) => {
        this.dialed.push(new URL(url).hostname);
        throw new Failure("relay-unreachable", "nothing listens there");
      },
    },
    KEYS,
    { onDatagram: () => undefined, onProbe: () => undefined, onChange: () => void this.changes++ },
  );

  admission(): Uint8Array {
    const [machineKey, publicKey] = [keyOf(KEYS.publicKey), PEER];
    return issueAdmission(systemRandom(32), { machineKey, publicKey, now: this.clock.wall() });
  }

  measure(near: number, far: number, online = true): void {
    const latencies = [
      { relay: "near", roundTripMs: near },
      { relay: "far", roundTripMs: far },
    ];
    this.relays.setOnline(online);
    this.relays.measured(latencies);
  }
}

test("the only relay is home at once; of several, the nearest when it is known which", () => {
  const one = new Bench();
  one.relays.setRelays([NEAR]);
  assert.equal(one.relays.home, "near");
  const two = new Bench();
  two.relays.setRelays([FAR, NEAR]);
  assert.equal(two.relays.home, undefined);
  two.measure(10, 90);
  assert.equal(two.relays.home, "near");
});

test("where STUN does not get through, the first relay is home", () => {
  const bench = new Bench();
  bench.relays.setRelays([FAR, NEAR]);
  bench.relays.measured([]);
  assert.equal(bench.relays.home, "far");
});

test("a relay is dialed before STUN has answered: the first after 0.3 s, and it is left for a nearer one", async () => {
  const bench = new Bench();
  bench.relays.admit(bench.admission());
  bench.relays.setRelays([FAR, NEAR]);
  await bench.clock.advance(HOME_WAIT_MS - 1);
  assert.deepEqual([bench.relays.home, bench.dialed], [undefined, []], "STUN may tell which is nearest");
  await bench.clock.advance(2);
  assert.deepEqual([bench.relays.home, bench.dialed], ["far", ["far.example"]]);
  bench.measure(10, 90);
  assert.equal(bench.relays.home, "near");
  bench.relays.stop();
});

test("STUN that answers at once decides alone", async () => {
  const bench = new Bench();
  bench.relays.admit(bench.admission());
  bench.relays.setRelays([FAR, NEAR]);
  bench.measure(10, 90);
  await bench.clock.advance(HOME_WAIT_MS + 1);
  assert.deepEqual([bench.relays.home, new Set(bench.dialed)], ["near", new Set(["near.example"])]);
  bench.relays.stop();
});

test("the home of an earlier run is home again, and dialed, without any wait; one that is gone is not", async () => {
  const bench = new Bench();
  bench.relays.recall({ home: "near", admission: bench.admission() });
  bench.relays.setRelays([FAR, NEAR]);
  await bench.clock.advance(1);
  assert.deepEqual([bench.relays.home, bench.dialed, bench.relays.memory.home], ["near", ["near.example"], "near"]);
  bench.relays.setRelays([FAR]);
  assert.equal(bench.relays.home, "far");
  bench.relays.stop();
});

test("home stays when another is hardly nearer, and while the coordinator could not tell peers of a change", async () => {
  const bench = new Bench();
  bench.relays.setRelays([FAR, NEAR]);
  bench.measure(60, 50);
  assert.equal(bench.relays.home, "far");
  bench.measure(45, 50);
  assert.equal(bench.relays.home, "far");
  await bench.clock.advance(6 * MINUTE);
  bench.measure(10, 50, false);
  assert.equal(bench.relays.home, "far");
  bench.measure(10, 50, true);
  assert.equal(bench.relays.home, "near");
});

test("a home that leaves the map is left", () => {
  const bench = new Bench();
  bench.relays.setRelays([FAR, NEAR]);
  bench.measure(10, 90);
  bench.relays.setRelays([FAR]);
  assert.equal(bench.relays.home, "far");
  bench.relays.setRelays([]);
  assert.equal(bench.relays.home, undefined);
});

test("nothing is dialed before there is an admission; then home, and another only when something is sent", async () => {
  const bench = new Bench();
  bench.relays.setRelays([FAR, NEAR]);
  bench.measure(10, 90);
  await bench.clock.advance(SECOND);
  assert.deepEqual([bench.dialed, bench.relays.reaches("near")], [[], false]);
  bench.relays.admit(bench.admission());
  assert.deepEqual([bench.relays.reaches("near"), bench.relays.reaches("far")], [true, true], "they may be tried");
  await bench.clock.advance(1);
  assert.deepEqual(bench.dialed, ["near.example"]);
  assert.deepEqual([bench.relays.reaches("near"), bench.relays.reaches("far")], [false, true], "one was tried in vain");
  bench.relays.send("far", PEER, Uint8Array.of(1));
  await bench.clock.advance(1);
  assert.deepEqual(bench.dialed, ["near.example", "far.example"]);
  assert.deepEqual(
    bench.relays.describe().map(({ name, home, state, roundTripMs }) => ({ name, home, state, roundTripMs })),
    [
      { name: "far relay", home: false, state: "failing", roundTripMs: 90 },
      { name: "near relay", home: true, state: "failing", roundTripMs: 10 },
    ],
  );
  bench.relays.stop();
});

test("an expired admission, and one that is none, is as good as none", async () => {
  const bench = new Bench();
  bench.relays.setRelays([NEAR]);
  bench.relays.admit(new Uint8Array(7));
  assert.equal(bench.relays.reaches("near"), false);
  const admission = bench.admission();
  await bench.clock.advance(ADMISSION_LIFETIME_MS);
  bench.relays.admit(admission);
  await bench.clock.advance(SECOND);
  assert.deepEqual([bench.dialed, bench.relays.reaches("near")], [[], false]);
  bench.relays.stop();
});

test("a machine that has moved dials its home again at once, whatever it was waiting for", async () => {
  const bench = new Bench();
  bench.relays.setRelays([NEAR]);
  bench.relays.admit(bench.admission());
  await bench.clock.advance(30 * SECOND);
  const before = bench.dialed.length;
  bench.relays.moved();
  await bench.clock.advance(0);
  assert.equal(bench.dialed.length, before + 1);
  bench.relays.stop();
});

test("without a connection no mapping is tried, and a datagram to no relay at all is nothing", () => {
  const bench = new Bench();
  bench.relays.setRelays([NEAR]);
  assert.equal(bench.relays.dialBack(parseEndpoint("203.0.113.7:1"), new Uint8Array(16)), false);
  bench.relays.send(undefined, PEER, Uint8Array.of(1));
  bench.relays.probe("gone", PEER, Uint8Array.of(1));
});

test("that no STUN server answers tells of blocked UDP while a relay is connected, and else that nobody is reached", () => {
  assert.equal(tellsOfNat({ blocked: true }, [{ state: "failing" }, { state: "connected" }]), true);
  assert.equal(tellsOfNat({ blocked: true }, [{ state: "failing" }]), false);
  assert.equal(tellsOfNat({ blocked: false }, []), true);
});
