import assert from "node:assert/strict";
import { test } from "node:test";
import { CALLERS_MAX, chosenPeers, PATHS_MAX, quietest, type Searchable } from "../../src/agent/pathchoice.js";
import { Paths } from "../../src/agent/paths.js";
import { Relays } from "../../src/agent/relays.js";
import { toBase64 } from "../../src/kit/bytes.js";
import { keyPairOf } from "../../src/kit/crypto.js";
import type { Endpoint } from "../../src/kit/endpoint.js";
import { Failure } from "../../src/kit/failure.js";
import type { Cidr, Ip } from "../../src/kit/ip.js";
import { type Key, keyOf } from "../../src/kit/key.js";
import type { DatagramSocket } from "../../src/sys/dgram.js";
import { systemRandom } from "../../src/sys/random.js";
import type { NetworkMap } from "../../src/wire/map.js";
import { encodeProbe, probeKey } from "../../src/wire/probe.js";
import { LabClock } from "./labclock.js";

/** An agent whose map holds more peers than paths are looked after for, as an exit node's may. */
const LOG = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined };
const DISCOVERY = keyPairOf(systemRandom(32));
const pairs = Array.from({ length: PATHS_MAX + CALLERS_MAX.burst + 8 }, () => keyPairOf(systemRandom(32)));
const peers = pairs.map(
  ({ publicKey }, n): Searchable => ({
    ...{ id: `d${n}`, name: `peer-${n}`, role: "device", publicKey: keyOf(systemRandom(32)) },
    ...{ addresses: [`100.64.${n >> 8}.${n & 255}` as Ip], routes: [], endpoints: [], resolvers: [], online: true },
    discoveryKey: keyOf(publicKey),
  }),
);
const map = {
  ...{ seq: 1, ranges: ["100.64.0.0/10" as Cidr], mtu: 1_280, peers },
  self: { id: "self", name: "home", role: "exit-node", addresses: [] },
} satisfies NetworkMap;
/** The first byte of a message of WireGuard's that is nothing else. */
const transport = (): Uint8Array => Uint8Array.of(4, 0, 0, 0, ...systemRandom(40));

class Bench {
  readonly clock = new LabClock();
  /** Open loopback sockets, and what was handed to WireGuard through them. */
  readonly sockets = new Set<Endpoint>();
  readonly handed: Endpoint[] = [];
  readonly probed: Endpoint[] = [];
  readonly paths: Paths;

  constructor() {
    const relays = new Relays(
      {
        ...{ clock: this.clock, random: systemRandom, log: LOG },
        dialRelay: async () => {
          throw new Failure("relay-unreachable", "nothing listens there");
        },
      },
      keyPairOf(systemRandom(32)),
      { onDatagram: () => undefined, onProbe: () => undefined, onChange: () => undefined },
    );
    const openSocket = async (port: number, address?: Ip): Promise<DatagramSocket> => {
      const at: Endpoint = { address: address ?? ("0.0.0.0" as Ip), port };
      this.sockets.add(at);
      const send = (): void => void this.handed.push(at);
      return {
        port,
        send,
        close: () => void this.sockets.delete(at),
        onReceive: undefined,
      } as unknown as DatagramSocket;
    };
    this.paths = new Paths(
      { ...{ clock: this.clock, random: systemRandom, log: LOG, relays, openSocket }, callThrough: () => undefined },
      { discovery: DISCOVERY },
      51_820,
    );
    this.paths.attach({
      kind: "userspace",
      set: async () => undefined,
      state: async () => assert.fail("nobody asks"),
      point: async () => undefined,
      close: async () => undefined,
      probes: { send: (to) => void this.probed.push(to), onReceive: undefined },
    });
  }

  /** A probe of the peer's, as it comes in on WireGuard's port. */
  probeFrom(n: number, from: Endpoint): void {
    const pair = pairs[n] ?? assert.fail("a peer of the map");
    const key = probeKey(pair.privateKey, DISCOVERY.publicKey) ?? assert.fail("a usable key");
    const ping = { kind: "ping", transaction: systemRandom(12), padding: 0 } as const;
    this.paths.receive(encodeProbe(ping, pair.publicKey, key, systemRandom(24)), from);
  }
}
const keyAt = (n: number): Key => peers[n]?.publicKey ?? assert.fail("a peer of the map");
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test("exit nodes have a path whatever their place in the map, then whoever had one", () => {
  const last = peers.length - 1;
  const withExit = peers.map((peer, n): Searchable => (n === last ? { ...peer, role: "exit-node" } : peer));
  const chosen = chosenPeers(withExit, (key) => key === keyAt(last - 1)).map(({ id }) => id);
  assert.equal(chosen.length, PATHS_MAX);
  assert.deepEqual(chosen.slice(0, 3), [`d${last}`, `d${last - 1}`, "d0"]);
  assert.deepEqual(
    chosenPeers(peers.slice(0, 3), () => false),
    peers.slice(0, 3),
  );
});

test("the path that makes room is the one that was quiet for longest, and never one in use", () => {
  const path = (isActive: boolean, quietFor: number) => ({ isActive, quietFor });
  const [used, quiet, quieter] = [path(true, 0), path(false, 10), path(false, 20)];
  assert.equal(quietest([used, quiet, quieter]), quieter);
  assert.equal(quietest([used]), undefined);
});

test("a peer that no path was looked after for is heard through its relay, from its first datagram on", async () => {
  const bench = new Bench();
  await bench.paths.setMap(map, {});
  assert.equal(bench.sockets.size, PATHS_MAX);
  const late = PATHS_MAX + 3;
  assert.equal(bench.paths.of(keyAt(late)), undefined);
  bench.paths.fromRelay(keyAt(late), transport());
  await turn();
  const path = bench.paths.of(keyAt(late)) ?? assert.fail("it has a path now");
  assert.deepEqual(bench.handed, [path.stand]);
  assert.equal(bench.sockets.size, PATHS_MAX, "in place of another's");
  bench.paths.stop();
});

test("a peer that no path was looked after for is answered when it probes", async () => {
  const bench = new Bench();
  await bench.paths.setMap(map, {});
  const from: Endpoint = { address: "203.0.113.9" as Ip, port: 4_000 };
  bench.probeFrom(PATHS_MAX + 1, from);
  assert.deepEqual([...new Set(bench.probed)], [from]);
  bench.paths.stop();
});

test("a stranger's call makes no room for itself, and peers that call in a flood push out a bounded number", async () => {
  const bench = new Bench();
  await bench.paths.setMap(map, {});
  const before = peers.filter(({ publicKey }) => bench.paths.of(publicKey) !== undefined).length;
  bench.paths.fromRelay(keyOf(systemRandom(32)), transport());
  bench.paths.called(toBase64(systemRandom(120)));
  assert.equal(peers.filter(({ publicKey }) => bench.paths.of(publicKey) !== undefined).length, before);
  for (let n = PATHS_MAX; n < peers.length; n++) bench.paths.fromRelay(keyAt(n), transport());
  const came = peers.slice(PATHS_MAX).filter(({ publicKey }) => bench.paths.of(publicKey) !== undefined);
  assert.equal(came.length, CALLERS_MAX.burst);
  bench.paths.stop();
});

test("when all paths are in use, one more peer gets none, and the status says so", async () => {
  const bench = new Bench();
  await bench.paths.setMap(map, {});
  for (const { publicKey } of peers.slice(0, PATHS_MAX)) bench.paths.wake(publicKey);
  bench.paths.fromRelay(keyAt(PATHS_MAX), transport());
  assert.equal(bench.paths.of(keyAt(PATHS_MAX)), undefined);
  assert.match(bench.paths.warnings.join(), /more than 512 peers are talked to at once/);
  bench.paths.stop();
});
