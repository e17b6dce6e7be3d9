import assert from "node:assert/strict";
import { createServer } from "node:net";
import { after, before, test } from "node:test";
import { backoffMs, ControlClient, type ControlState } from "../../src/agent/control.js";
import { keyPairOf } from "../../src/kit/crypto.js";
import { type Key, keyOf } from "../../src/kit/key.js";
import type { Millis } from "../../src/kit/time.js";
import type { Clock } from "../../src/sys/clock.js";
import { systemClock } from "../../src/sys/clock.js";
import { systemRandom } from "../../src/sys/random.js";
import { type Dial, dialWebSocket } from "../../src/sys/websocket.js";
import { type Bench, openBench } from "../coordinator/bench.js";

const LIMIT = { timeout: 60_000 };
/** A label longer than a name can have (RFC 1035 §2.3.4): the system refuses it without asking anybody. */
const NO_NAME = `${"x".repeat(64)}.invalid`;
/** Nothing listens there, and no process is given it by chance. */
const CLOSED = "https://127.0.0.1:1";
let bench: Bench;
before(async () => {
  bench = await openBench();
});
after(() => bench.close());

/** What the client says first when it dials these URLs. */
async function firstState(
  urls: readonly string[],
  coordinatorKey: Key,
  dial: Dial = dialWebSocket,
): Promise<ControlState> {
  const stop = new AbortController();
  const heard = withResolvers<ControlState>();
  const client = new ControlClient(
    { dial, clock: systemClock, random: systemRandom },
    {
      urls,
      coordinatorKey,
      machineKey: keyPairOf(systemRandom(32)),
      hello: () => ({
        agentVersion: "t",
        name: "x",
        publicKey: keyOf(keyPairOf(systemRandom(32)).publicKey),
        report: { endpoints: [], routes: [], resolvers: [] },
      }),
    },
    { onMap() {}, onRefused() {}, onState: heard.resolve },
  );
  const running = client.run(stop.signal);
  const state = await heard.promise;
  stop.abort();
  await running;
  return state;
}

const reasonOf = (state: ControlState): string => (state.connected ? "connected" : state.reason);

test("whoever does not hold the coordinator's key is not believed", LIMIT, async () => {
  const stranger = keyOf(keyPairOf(systemRandom(32)).publicKey);
  const state = await firstState([`https://127.0.0.1:${bench.coordinator.port}`], stranger);
  // The real coordinator cannot read what was meant for another key, and hangs up.
  assert.match(reasonOf(state), /connection to the coordinator ended/);
});

test("a name that does not resolve, a closed port and a server without TLS are each told in words", LIMIT, async () => {
  const { publicKey } = bench.coordinator;
  const plain = createServer((socket) =>
    socket
      .on("error", () => undefined)
      .resume()
      .end("220 not TLS\r\n"),
  ).listen(0, "127.0.0.1");
  await new Promise((resolve) => plain.once("listening", resolve));
  const address = plain.address();
  const plainPort = typeof address === "object" && address !== null ? address.port : 0;
  assert.match(
    reasonOf(await firstState([`https://${NO_NAME}`], publicKey)),
    /name x{64}\.invalid cannot be looked up/,
  );
  assert.match(reasonOf(await firstState([`https://127.0.0.1:${plainPort}`], publicKey)), /TLS/);
  plain.close();
  assert.match(reasonOf(await firstState([CLOSED], publicKey)), /nothing listens there/);
});

test("a dead first URL is passed over at once", LIMIT, async () => {
  /** Each port, and how often something was waited for before. */
  const dialled: [port: string, pauses: number][] = [];
  let pauses = 0;
  const dial: Dial = (url, options) => {
    dialled.push([new URL(url).port, pauses]);
    return dialWebSocket(url, options);
  };
  const clock: Clock = {
    ...systemClock,
    sleep(duration, signal) {
      pauses++;
      return systemClock.sleep(duration, signal);
    },
  };
  const { port, publicKey } = bench.coordinator;
  const stop = new AbortController();
  const refused = withResolvers<boolean>();
  const client = new ControlClient(
    { dial, clock, random: systemRandom },
    {
      urls: [CLOSED, `https://127.0.0.1:${port}`],
      coordinatorKey: publicKey,
      machineKey: keyPairOf(systemRandom(32)),
      hello: () => ({
        agentVersion: "t",
        name: "x",
        publicKey: keyOf(keyPairOf(systemRandom(32)).publicKey),
        report: { endpoints: [], routes: [], resolvers: [] },
      }),
    },
    { onMap() {}, onRefused: ({ final }) => refused.resolve(final), onState() {} },
  );
  assert.equal(await client.run(stop.signal), "refused");
  assert.equal(await refused.promise, true);
  assert.deepEqual(dialled, [
    ["1", 0],
    [String(port), 0],
  ]);
});

test("a report made before the welcome arrives is not lost", LIMIT, async () => {
  const watcher = await bench.device("watcher", (await bench.key({ role: "device" })).secret).until((d) => !!d.map);
  const device = bench.device("early", (await bench.key({ role: "device" })).secret);
  device.client.report({ endpoints: ["198.51.100.77:7"], routes: [], resolvers: [] });
  await watcher.until(({ map }) => map?.peers.find(({ name }) => name === "early")?.endpoints[0] === "198.51.100.77:7");
});

test("waiting doubles from half a second to a quarter of a minute, and chance takes at most half of it away", () => {
  const least = (): Uint8Array => Uint8Array.of(0, 0);
  const most = (): Uint8Array => Uint8Array.of(255, 255);
  assert.deepEqual(
    [0, 1, 2, 5, 6, 60].map((round) => backoffMs(round, most)),
    [500, 1_000, 2_000, 15_000, 15_000, 15_000],
  );
  assert.deepEqual(
    [0, 1, 60].map((round) => backoffMs(round, least)),
    [250, 500, 7_500],
  );
});

test("a changed network ends the waiting", LIMIT, async () => {
  const pauses: Millis[] = [];
  const asleep = withResolvers<void>();
  const clock: Clock = {
    ...systemClock,
    sleep(duration, signal) {
      pauses.push(duration);
      asleep.resolve();
      return systemClock.sleep(60_000, signal);
    },
  };
  let dials = 0;
  const again = withResolvers<void>();
  const stop = new AbortController();
  const client = new ControlClient(
    {
      dial: async () => {
        if (++dials === 2) again.resolve();
        throw new Error("no way out");
      },
      clock,
      random: systemRandom,
    },
    {
      urls: [CLOSED],
      coordinatorKey: bench.coordinator.publicKey,
      machineKey: keyPairOf(systemRandom(32)),
      hello: () => assert.fail("nobody to greet"),
    },
    { onMap() {}, onRefused() {}, onState() {} },
  );
  const running = client.run(stop.signal);
  await asleep.promise;
  client.hurry();
  await again.promise;
  stop.abort();
  assert.equal(await running, "stopped");
  assert.equal(pauses.length >= 1, true);
});

function withResolvers<T>(): { promise: Promise<T>; resolve: (value: T) => void } {
  let settle: (value: T) => void = () => undefined;
  const promise = new Promise<T>((resolve) => {
    settle = resolve;
  });
  return { promise, resolve: settle };
}
