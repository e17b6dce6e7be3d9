import assert from "node:assert/strict";
import { test } from "node:test";
import { isLoopback, loopbackOf, loopbackPortOf } from "../../src/agent/loopback.js";
import { PeerPath, type Ways } from "../../src/agent/peerpath.js";
import { utf8 } from "../../src/kit/bytes.js";
import { hash } from "../../src/kit/crypto.js";
import { type Endpoint, formatEndpoint, parseEndpoint } from "../../src/kit/endpoint.js";
import type { Ip } from "../../src/kit/ip.js";
import { keyOf } from "../../src/kit/key.js";
import { SECOND } from "../../src/kit/time.js";
import { LINGER_MS, TRUST_MS } from "../../src/nat/directpath.js";
import { ACTIVE_MS } from "../../src/nat/pathfinder.js";
import { systemRandom } from "../../src/sys/random.js";
import type { MapPeer } from "../../src/wire/map.js";
import type { Ping, Probe } from "../../src/wire/probe.js";
import { HOME } from "./agentworld.js";

/** One peer's path, with sockets that the test holds the other end of. */

const KEY = keyOf(hash(utf8("home")));
const free = () => false;
const STAND = loopbackOf(KEY, loopbackPortOf(51_820), free);
const WIREGUARD = parseEndpoint("127.0.0.1:51820");
const THERE = parseEndpoint("203.0.113.7:51820");
const PEER: MapPeer = { ...HOME, endpoints: [formatEndpoint(THERE)], homeRelay: "r1" };
/** As WireGuard's transport messages begin. */
const DATAGRAM = Uint8Array.of(4, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8);

type Opened = { onReceive: ((datagram: Uint8Array, from: Endpoint) => void) | undefined; closed: boolean };

class Bench {
  now = 0;
  /** Where each thing went: "direct ADDRESS", "relay", "call", "point ADDRESS", "wireguard", "birthday ADDRESS". */
  went: string[] = [];
  readonly probes: Probe[] = [];
  readonly sockets = new Map<string, Opened>();
  readonly path: PeerPath;
  #opened = 0;

  constructor() {
    const ways: Ways = {
      now: () => this.now,
      random: systemRandom,
      send: (to) => void this.went.push(`direct ${formatEndpoint(to)}`),
      relay: () => void this.went.push("relay"),
      call: () => void this.went.push("call"),
      seal: (_peer, probe) => {
        this.probes.push(probe);
        return undefined;
      },
      heard: () => void this.went.push("heard"),
      due: () => undefined,
      point: (_peer, endpoint) => void this.went.push(`point ${formatEndpoint(endpoint)}`),
      openSocket: async (port: number, address?: Ip) => {
        const name = port === 0 ? `birthday ${this.#opened++}` : `${address}:${port}`;
        const socket = { port, onReceive: undefined, closed: false };
        this.sockets.set(name, socket);
        return {
          ...socket,
          set onReceive(listener: Opened["onReceive"]) {
            (socket as Opened).onReceive = listener;
          },
          send: (to: Endpoint) =>
            void this.went.push(name.startsWith("birthday") ? `birthday ${formatEndpoint(to)}` : "wireguard"),
          close: () => {
            socket.closed = true;
          },
        };
      },
      wireguard: () => WIREGUARD,
      warn: (text) => assert.fail(text),
    };
    this.path = new PeerPath(PEER, STAND, [], ways);
  }

  async open(relay: boolean): Promise<void> {
    await this.path.open();
    this.path.learn(PEER, undefined);
    this.path.do(this.path.finder.setRelay(relay, this.now));
    this.went = [];
  }

  /** WireGuard, or whoever pretends to be it, sends to where the peer seems to be. */
  fromWireGuard(from = WIREGUARD, datagram: Uint8Array = DATAGRAM): void {
    this.sockets.get(formatEndpoint(STAND))?.onReceive?.(datagram, from);
  }

  /** The peer answers the first ping that was sent to it. */
  proveDirect(): void {
    const ping = this.probes.find((probe): probe is Ping => probe.kind === "ping");
    assert.ok(ping !== undefined, "it was pinged");
    const pong: Probe = { kind: "pong", transaction: ping.transaction, source: THERE };
    this.path.do(this.path.finder.receive(pong, { kind: "direct", from: THERE, socket: undefined }, this.now));
  }

  state(endpoint: Endpoint, sentBytes = 0, receivedBytes = 0) {
    this.path.observe({ publicKey: KEY, endpoint, sentBytes, receivedBytes });
  }

  took(): string[] {
    return this.went.splice(0);
  }
}

test("the first datagram goes through the relay, and begins the search", async () => {
  const bench = new Bench();
  await bench.open(true);
  bench.fromWireGuard();
  assert.deepEqual(bench.took(), ["relay"]);
  assert.deepEqual(
    bench.probes.map(({ kind }) => kind),
    ["call-me-maybe", "ping"],
  );
  assert.deepEqual(bench.path.endpoint, STAND);
});

test("what WireGuard says while there is no way is sent when there is one, but not what is old by then", async () => {
  const bench = new Bench();
  await bench.open(false);
  bench.fromWireGuard();
  assert.deepEqual(bench.took(), []);
  bench.now = 2 * SECOND;
  bench.path.do(bench.path.finder.setRelay(true, bench.now));
  assert.deepEqual(bench.took(), [`point ${formatEndpoint(STAND)}`, "relay"]);

  const late = new Bench();
  await late.open(false);
  late.fromWireGuard();
  late.now = 5 * SECOND;
  late.path.do(late.path.finder.setRelay(true, late.now));
  assert.deepEqual(late.took(), [`point ${formatEndpoint(STAND)}`]);
});

test("a proven path is told to WireGuard, which then sends by itself", async () => {
  const bench = new Bench();
  await bench.open(true);
  bench.fromWireGuard();
  bench.took();
  bench.proveDirect();
  assert.deepEqual(bench.took(), [`point ${formatEndpoint(THERE)}`]);
  assert.deepEqual(bench.path.endpoint, THERE);
  bench.fromWireGuard();
  assert.deepEqual(bench.took(), [`direct ${formatEndpoint(THERE)}`], "what still comes to us goes the same way");
});

test("WireGuard is sent back when it followed the peer to the relay, or from it, and not when it followed it elsewhere", async () => {
  const bench = new Bench();
  await bench.open(true);
  bench.fromWireGuard();
  bench.took();
  bench.state(THERE);
  assert.deepEqual(bench.took(), [`point ${formatEndpoint(STAND)}`], "relayed");
  bench.state(STAND);
  assert.deepEqual(bench.took(), []);
  bench.proveDirect();
  bench.took();
  bench.state(STAND);
  assert.deepEqual(bench.took(), [`point ${formatEndpoint(THERE)}`], "direct");
  bench.state(THERE);
  bench.state(parseEndpoint("198.51.100.9:1024"));
  assert.deepEqual(bench.took(), []);
});

test("an unanswered direct path is left for both ways, and for the relay when the peer calls or LINGER_MS are over", async () => {
  const bench = new Bench();
  await bench.open(true);
  bench.fromWireGuard();
  bench.proveDirect();
  bench.took();
  while (bench.path.route.kind === "direct" && bench.now < 10 * SECOND) {
    bench.now = Math.max(bench.now + 1, bench.path.finder.deadline ?? 0);
    bench.path.wake();
    bench.path.do(bench.path.finder.tick(bench.now));
  }
  assert.deepEqual([bench.path.route.kind, bench.path.endpoint], ["both", STAND]);
  bench.took();
  bench.fromWireGuard();
  assert.deepEqual(
    bench.took().filter((one) => !one.startsWith("point")),
    [`direct ${formatEndpoint(THERE)}`, "relay"],
  );
  bench.now = 7 * SECOND;
  bench.path.wake();
  assert.deepEqual([bench.path.route.kind, bench.path.finder.path.kind === "direct"], ["both", false]);
  bench.now = TRUST_MS + LINGER_MS;
  bench.path.wake();
  assert.equal(bench.path.route.kind, "relay");

  const called = new Bench();
  await called.open(true);
  called.fromWireGuard();
  called.proveDirect();
  called.now = 7 * SECOND;
  called.path.wake();
  assert.equal(called.path.route.kind, "both");
  const call: Probe = { kind: "call-me-maybe", nat: "unknown", endpoints: [] };
  called.path.do(called.path.finder.receive(call, { kind: "relay" }, called.now));
  assert.equal(called.path.route.kind, "relay");
});

test("what WireGuard hears there keeps a direct path, and not what it hears by the relay or elsewhere, or says itself", async () => {
  const isDirectAfter = async (seconds: number, state: (bench: Bench, second: number) => void): Promise<boolean> => {
    const bench = new Bench();
    await bench.open(true);
    bench.fromWireGuard();
    bench.proveDirect();
    for (let second = 1; second <= seconds; second++) {
      bench.now = second * SECOND;
      state(bench, second);
      bench.path.wake();
    }
    return bench.path.finder.path.kind === "direct";
  };
  const ELSEWHERE = parseEndpoint("198.51.100.9:1024");
  assert.equal(await isDirectAfter(60, (bench, second) => bench.state(THERE, 0, second)), true);
  assert.equal(await isDirectAfter(7, (bench, second) => bench.state(STAND, 0, second)), false);
  assert.equal(await isDirectAfter(7, (bench, second) => bench.state(ELSEWHERE, 0, second)), false);
  assert.equal(await isDirectAfter(7, (bench, second) => bench.state(THERE, second)), false);
  // It fell silent somewhen before the look at the fourth second.
  const dies = (bench: Bench, second: number): void => bench.state(THERE, 0, Math.min(second, 4));
  assert.deepEqual([await isDirectAfter(9, dies), await isDirectAfter(10, dies)], [true, false]);
});

test("nobody but WireGuard is carried, and only what is WireGuard's", async () => {
  const bench = new Bench();
  await bench.open(true);
  bench.fromWireGuard(parseEndpoint("127.0.0.1:40000"));
  bench.fromWireGuard(parseEndpoint("127.0.0.2:51820"));
  bench.fromWireGuard(WIREGUARD, utf8("hello, world"));
  bench.path.fromRelay(utf8("hello, world"));
  assert.deepEqual(bench.took(), []);
  bench.path.fromRelay(DATAGRAM);
  assert.deepEqual(bench.took(), ["wireguard"]);
});

test("bytes that WireGuard counts are traffic, and silence ends it", async () => {
  const bench = new Bench();
  await bench.open(true);
  assert.equal(bench.path.isActive, false);
  bench.state(STAND, 148);
  assert.equal(bench.path.isActive, true);
  bench.now += ACTIVE_MS;
  bench.state(STAND, 148);
  assert.equal(bench.path.isActive, false);
});

test("how long a peer is lost counts from the first traffic that found no way", async () => {
  const bench = new Bench();
  await bench.open(false);
  bench.now = 10 * SECOND;
  assert.equal(bench.path.lostFor, 0);
  bench.path.wake();
  bench.now += 2 * SECOND;
  bench.path.wake();
  assert.equal(bench.path.lostFor, 2 * SECOND);
  bench.path.do(bench.path.finder.setRelay(true, bench.now));
  assert.equal(bench.path.lostFor, 0);
});

test("birthday sockets that are not wanted any more are closed, those still being opened too", async () => {
  const bench = new Bench();
  await bench.open(true);
  bench.path.do([{ kind: "open-sockets", first: 0, count: 3 }]);
  bench.path.do([{ kind: "keep-sockets", sockets: [1] }]);
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(
    [0, 1, 2].map((number) => bench.sockets.get(`birthday ${number}`)?.closed),
    [true, false, true],
  );
  bench.path.direct(THERE, 1, DATAGRAM);
  bench.path.direct(THERE, 2, DATAGRAM);
  assert.deepEqual(bench.took(), [`birthday ${formatEndpoint(THERE)}`]);
  bench.sockets.get("birthday 1")?.onReceive?.(DATAGRAM, THERE);
  assert.deepEqual(bench.took(), ["wireguard"]);
  bench.path.close();
  assert.equal(bench.sockets.get("birthday 1")?.closed, true);
});

test("a peer's loopback endpoint is always the same, its own, and beside WireGuard's ports", () => {
  assert.deepEqual(loopbackOf(KEY, 51_822, free), STAND);
  const next = loopbackOf(KEY, 51_822, (address) => address === STAND.address);
  assert.ok(isLoopback(next.address) && next.address !== STAND.address, "a taken one is not taken twice");
  assert.ok(isLoopback(STAND.address) && !isLoopback(WIREGUARD.address));
  const many = Array.from({ length: 500 }, (_, i) => loopbackOf(keyOf(hash(utf8(`peer ${i}`))), 1, free).address);
  assert.equal(new Set(many).size, many.length);
  assert.deepEqual([0, 51_820, 65_533, 65_534, 65_535].map(loopbackPortOf), [51_822, 51_822, 65_535, 65_532, 65_533]);
});
