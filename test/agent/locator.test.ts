import assert from "node:assert/strict";
import { test } from "node:test";
import { AGAIN_MAX_MS, AGAIN_MIN_MS, type Located, Locator, NAMES_AGE_MAX_MS } from "../../src/agent/locator.js";
import { type Endpoint, formatEndpoint, parseEndpoint } from "../../src/kit/endpoint.js";
import { parseIp } from "../../src/kit/ip.js";
import { keyOf } from "../../src/kit/key.js";
import { decodeStunRequest, encodeStunResponse } from "../../src/nat/stun.js";
import { STUN_ROUND_MS } from "../../src/nat/stunclient.js";
import { systemRandom } from "../../src/sys/random.js";
import type { MapRelay } from "../../src/wire/map.js";
import { LabClock, settled } from "./labclock.js";

const relay = (id: string, host: string, stunPort = 3_478): MapRelay => ({
  ...{ id, name: id, stunPort, relayKey: keyOf(new Uint8Array(32)) },
  url: `https://${host}:8443`,
});
const LOCAL = { port: 51_820, addresses: [parseIp("192.168.7.2")] };
const MAPPED = parseEndpoint("203.0.113.9:51820");

class Bench {
  readonly clock = new LabClock();
  readonly located: Located[] = [];
  readonly asked: Endpoint[] = [];
  readonly names: string[] = [];
  answering = true;
  lookUp: (name: string, family?: number) => Promise<ReturnType<typeof parseIp>> = async (_name, family) =>
    parseIp(family === 4 ? "198.51.100.1" : "2001:db8::1");
  readonly locator = new Locator(
    {
      clock: this.clock,
      random: systemRandom,
      lookUp: (name, family) => {
        this.names.push(`${name} ${family}`);
        return this.lookUp(name, family);
      },
      send: (to, datagram) => {
        this.asked.push(to);
        const request = decodeStunRequest(datagram);
        if (!this.answering || request === undefined) return;
        void this.clock.sleep(40).then(() => this.locator.receive(encodeStunResponse(request, MAPPED), to));
      },
    },
    (one) => void this.located.push(one),
  );
}

test("every relay that answers STUN is asked over both families, and its round trip is its latency", async () => {
  const bench = new Bench();
  bench.locator.setRelays([relay("near", "near.example"), relay("mute", "mute.example", 0)]);
  await bench.locator.begin(LOCAL);
  await bench.clock.advance(1_000);
  assert.deepEqual(bench.names, ["near.example 4", "near.example 6"]);
  assert.deepEqual([...new Set(bench.asked.map(formatEndpoint))], ["198.51.100.1:3478", "[2001:db8::1]:3478"]);
  assert.deepEqual(bench.located[0]?.report.mapped, [MAPPED]);
  assert.deepEqual(bench.located[0]?.latencies, [
    { relay: "near", roundTripMs: 40 },
    { relay: "near", roundTripMs: 40 },
  ]);
});

test("a round that nobody answers says that UDP is blocked", async () => {
  const bench = new Bench();
  bench.answering = false;
  bench.locator.setRelays([relay("near", "near.example")]);
  await bench.locator.begin(LOCAL);
  await bench.clock.advance(STUN_ROUND_MS);
  assert.deepEqual([bench.located[0]?.report.blocked, bench.located[0]?.latencies], [true, []]);
});

test("a name that is not found or never answered is left out, and looked up again at the next round", async () => {
  const bench = new Bench();
  bench.lookUp = () => new Promise(() => undefined);
  bench.locator.setRelays([relay("near", "near.example")]);
  const begun = bench.locator.begin(LOCAL);
  await bench.clock.advance(3_000);
  await begun;
  assert.deepEqual([bench.asked, bench.located], [[], []]);
  bench.lookUp = async () => parseIp("198.51.100.1");
  await bench.locator.begin(LOCAL);
  await bench.clock.advance(1_000);
  assert.equal(bench.located.length, 1);
});

test("names are believed for a while, and not in another network", async () => {
  const bench = new Bench();
  bench.locator.setRelays([relay("near", "near.example")]);
  const round = async (): Promise<void> => {
    await bench.locator.begin(LOCAL);
    await bench.clock.advance(1_000);
  };
  await round();
  await round();
  assert.equal(bench.names.length, 2);
  bench.locator.forget();
  await round();
  assert.equal(bench.names.length, 4);
  await bench.clock.advance(NAMES_AGE_MAX_MS);
  await round();
  assert.equal(bench.names.length, 6);
});

test("a round that is overtaken says nothing", async () => {
  const bench = new Bench();
  bench.locator.setRelays([relay("near", "near.example")]);
  await Promise.all([bench.locator.begin(LOCAL), bench.locator.begin(LOCAL)]);
  await bench.clock.advance(5_000);
  assert.equal(bench.located.length, 1);
});

test("while it is talked the next round is due within half a minute, which NATs need", async () => {
  const bench = new Bench();
  assert.equal(bench.locator.isDue(bench.clock.now()), true);
  await bench.locator.begin(LOCAL);
  await settled();
  const began = bench.clock.now();
  assert.equal(bench.locator.isDue(began + AGAIN_MIN_MS - 1), false);
  assert.equal(bench.locator.isDue(began + AGAIN_MAX_MS), true);
});
