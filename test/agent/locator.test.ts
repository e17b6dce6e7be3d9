import assert from "node:assert/strict";
import { test } from "node:test";
import { LOOK_INTERVAL_MS } from "../../src/agent/agent.js";
import { AGAIN_MAX_MS, AGAIN_MIN_MS, type Located, Locator, NAMES_AGE_MAX_MS } from "../../src/agent/locator.js";
import { isTaken, openRelayStun, type RelayStun } from "../../src/cli/relaystun.js";
import { type Endpoint, formatEndpoint, parseEndpoint } from "../../src/kit/endpoint.js";
import { type Ip, parseIp } from "../../src/kit/ip.js";
import { keyOf } from "../../src/kit/key.js";
import { natKindOf } from "../../src/nat/natkind.js";
import { decodeStunRequest, encodeStunResponse } from "../../src/nat/stun.js";
import { STUN_ROUND_MS } from "../../src/nat/stunclient.js";
import { openDatagramSocket } from "../../src/sys/dgram.js";
import { systemRandom } from "../../src/sys/random.js";
import type { MapRelay } from "../../src/wire/map.js";
import { until } from "../engine/patience.js";
import { Host } from "../nat/internet.js";
import { stunServer } from "../nat/labagent.js";
import { Lab, type Situation } from "../nat/situations.js";
import { MAP, World } from "./agentworld.js";
import { InternetClock } from "./internetclock.js";
import { LabClock, settled } from "./labclock.js";

const relay = (id: string, host: string, stunPort = 3_478): MapRelay => ({
  ...{ id, name: id, stunPort, relayKey: keyOf(new Uint8Array(32)) },
  url: `https://${host}:8443`,
});
const withTwoPorts = { ...relay("near", "near.example"), otherStunPort: 50_000 };
const LOCAL = { port: 51_820, addresses: [parseIp("192.168.7.2")] };
const MAPPED = parseEndpoint("203.0.113.9:51820");

class Bench {
  readonly clock = new LabClock();
  readonly located: Located[] = [];
  readonly asked: Endpoint[] = [];
  readonly names: string[] = [];
  answers: (to: Endpoint) => boolean = () => true;
  mapped = MAPPED;
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
        if (!this.answers(to) || request === undefined) return;
        void this.clock.sleep(40).then(() => this.locator.receive(encodeStunResponse(request, this.mapped), to));
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

test("a relay's other port is asked where the map says it is, after every host's first", async () => {
  const bench = new Bench();
  bench.locator.setRelays([withTwoPorts]);
  await bench.locator.begin(LOCAL);
  await bench.clock.advance(1_000);
  assert.deepEqual(bench.asked.map(formatEndpoint), [
    ...["198.51.100.1:3478", "[2001:db8::1]:3478"],
    ...["198.51.100.1:50000", "[2001:db8::1]:50000"],
  ]);
  assert.deepEqual([...new Set(bench.located[0]?.latencies.map((one) => one.relay))], ["near"]);
});

test("a relay with two names for one address is asked there once", async () => {
  const bench = new Bench();
  const urls = ["https://near.example:8443", "https://198.51.100.1:8443"];
  bench.locator.setRelays([{ ...relay("near", "near.example"), urls }]);
  await bench.locator.begin(LOCAL);
  await bench.clock.advance(1_000);
  assert.deepEqual(bench.asked.map(formatEndpoint), ["198.51.100.1:3478", "[2001:db8::1]:3478"]);
});

test("a relay that gets another port is another one to ask", () => {
  const { locator } = new Bench();
  locator.setRelays([withTwoPorts]);
  assert.equal(locator.setRelays([{ ...withTwoPorts }]), false);
  assert.equal(locator.setRelays([{ ...withTwoPorts, otherStunPort: 50_001 }]), true);
});

test("a relay with a second address inside of the home is asked there too, and UDP is then not called blocked", async () => {
  const bench = new Bench();
  const inside = parseEndpoint("192.168.7.50:3478");
  bench.lookUp = async (name) => parseIp(name === "192.168.7.50" ? name : "203.0.113.9");
  bench.answers = (to) => to.address === inside.address;
  bench.mapped = { address: parseIp("192.168.7.2"), port: LOCAL.port };
  const urls = ["https://home.example:8443", "https://192.168.7.50:8443"];
  bench.locator.setRelays([{ ...relay("own", "home.example"), urls }]);
  await bench.locator.begin(LOCAL);
  await bench.clock.advance(STUN_ROUND_MS);
  const report = bench.located[0]?.report ?? assert.fail("no report");
  assert.deepEqual([report.blocked, report.mapping, report.inside], [false, "unknown", true]);
  assert.ok(bench.located[0]?.latencies.every((one) => one.relay === "own" && one.roundTripMs === 40));
});

for (const [situation, kind] of [
  ["symmetric", "hard"],
  ["IPv4 only", "easy"],
  ["open", "open"],
] satisfies [Situation, string][])
  test(`in the simulated Internet, one relay with two ports shows that ${situation} is ${kind}`, async () => {
    const lab = new Lab("open", "open", 1);
    const { internet } = lab;
    const server = new Host(lab.core, [parseIp("192.0.2.9")]);
    stunServer(server, 3_478);
    stunServer(server, withTwoPorts.otherStunPort);
    const { host } = lab.place(situation, 7);
    const clock = new InternetClock(internet);
    const located: Located[] = [];
    const lookUp = async (_name: string, family: number): Promise<Ip> =>
      family === 4 ? parseIp("192.0.2.9") : assert.fail("no IPv6 there");
    const locator = new Locator(
      { clock, random: internet.random, lookUp, send: (to, datagram) => void host.send(LOCAL.port, to, datagram) },
      (one) => void located.push(one),
    );
    host.open(LOCAL.port, (datagram, from) => locator.receive(datagram, from));
    locator.setRelays([withTwoPorts]);
    void locator.begin({ port: LOCAL.port, addresses: host.addresses });
    await clock.run(2_000);
    const [found] = located;
    assert.deepEqual([found && natKindOf(found.report), found?.report.compared.answers], [kind, 2]);
  });

test("over real UDP both ports of a relay answer, each from where it was asked", async () => {
  const stun = await openBothPorts();
  const { stunPort, otherStunPort } = stun;
  const socket = await openDatagramSocket(0, parseIp("127.0.0.1"));
  const located: Located[] = [];
  const lookUp = async (name: string, family: number): Promise<Ip> =>
    family === 4 ? parseIp(name) : assert.fail("no IPv6 there");
  // Time stands still: nobody asks twice, or gives up, because this machine is slow.
  const parts = { clock: new LabClock(), random: systemRandom, lookUp };
  const send = (to: Endpoint, datagram: Uint8Array): void => socket.send(to, datagram);
  const locator = new Locator({ ...parts, send }, (one) => void located.push(one));
  socket.onReceive = (datagram, from) => locator.receive(datagram, from);
  try {
    locator.setRelays([{ ...relay("near", "127.0.0.1", stunPort), otherStunPort }]);
    await locator.begin({ port: socket.port, addresses: [] });
    await until("both have answered", () => located.length > 0);
    const me = { address: parseIp("127.0.0.1"), port: socket.port };
    assert.deepEqual(
      located[0]?.report.samples.map(({ server, mapped }) => [server.port, mapped]),
      [
        [stunPort, me],
        [otherStunPort, me],
      ],
    );
    assert.deepEqual(stun.counters, { requests: 2, answered: 2, passedOver: 0 });
  } finally {
    socket.close();
    stun.close();
  }
});

test("a round that nobody answers says that UDP is blocked", async () => {
  const bench = new Bench();
  bench.answers = () => false;
  bench.locator.setRelays([relay("near", "near.example")]);
  await bench.locator.begin(LOCAL);
  await bench.clock.advance(STUN_ROUND_MS);
  assert.deepEqual([bench.located[0]?.report.blocked, bench.located[0]?.latencies], [true, []]);
});

test("a machine whose WireGuard is slow to open its port asks anew when it is open, not half a minute later", async () => {
  const world = new World();
  world.coordinator.map = { ...MAP, relays: [relay("near", "203.0.113.50")] };
  const agent = await world.start();
  const asked = (): number => world.backend.sent.filter(({ to }) => to.port === 3_478).length;
  await world.clock.advance(LOOK_INTERVAL_MS - 100);
  const before = asked();
  await world.clock.advance(300);
  assert.ok(before > 0 && asked() >= before + 2, `${asked() - before} more`);
  await agent.stop();
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

/** On two ports that were free a moment ago: when another program was quicker, on two others. */
async function openBothPorts(): Promise<RelayStun> {
  for (;;) {
    const want = { stunPort: await freePort(), otherStunPort: await freePort() };
    const stun = await openRelayStun(want).catch((error) => {
      if (!isTaken(error)) throw error;
    });
    if (stun !== undefined && stun.otherStunPort !== 0) return stun;
    stun?.close();
  }
}

/** A UDP port that nobody has at this moment. */
async function freePort(): Promise<number> {
  const socket = await openDatagramSocket(0);
  const { port } = socket;
  socket.close();
  return port;
}
