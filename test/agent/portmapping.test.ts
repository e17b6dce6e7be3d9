import assert from "node:assert/strict";
import { test } from "node:test";
import { PortMapping } from "../../src/agent/portmapping.js";
import { concat, utf8 } from "../../src/kit/bytes.js";
import { type Endpoint, formatEndpoint, parseEndpoint } from "../../src/kit/endpoint.js";
import { parseIp } from "../../src/kit/ip.js";
import { MINUTE, SECOND } from "../../src/kit/time.js";
import { VERIFY_MS } from "../../src/nat/portmap/portmapper.js";
import { systemRandom } from "../../src/sys/random.js";
import { DIAL_BACK_TYPE } from "../../src/wire/relay.js";
import { LabClock, settled } from "./labclock.js";

/** A router that speaks NAT-PMP alone (RFC 6886 §3), and a relay that reaches it or does not. */

const GATEWAY = { address: parseIp("192.168.7.1"), client: parseIp("192.168.7.2") };
const OUTSIDE = parseEndpoint("203.0.113.9:51820");

class Bench {
  readonly clock = new LabClock();
  readonly told: (string | undefined)[] = [];
  readonly tokens: Uint8Array[] = [];
  readonly asked: string[] = [];
  relayIsThere = true;
  /** What the router answers as. */
  router: Endpoint = { address: GATEWAY.address, port: 5_351 };
  open = 0;
  readonly mapping = new PortMapping(
    {
      clock: this.clock,
      random: systemRandom,
      log: { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined },
      openSocket: async (port) => {
        this.open++;
        const socket = {
          port,
          onReceive: undefined as ((datagram: Uint8Array, from: Endpoint) => void) | undefined,
          send: (_to: Endpoint, datagram: Uint8Array) => {
            const answer = answerOf(datagram);
            if (answer === undefined) return;
            this.asked.push(answer.what);
            void this.clock.sleep(1).then(() => socket.onReceive?.(answer.datagram, this.router));
          },
          close: () => void this.open--,
        };
        return socket;
      },
      fetchHttp: async () => undefined,
    },
    {
      dialBack: (_endpoint, token) => {
        this.tokens.push(token);
        return this.relayIsThere;
      },
      onMapped: (endpoint) => void this.told.push(endpoint && formatEndpoint(endpoint)),
    },
  );

  dialedBack(token = this.tokens.at(-1) ?? new Uint8Array(16)): boolean {
    return this.mapping.receive(concat(utf8("EXND"), Uint8Array.of(DIAL_BACK_TYPE), token));
  }
}

/** Version 0; operation 0 asks for the address, 1 for a UDP mapping. */
function answerOf(request: Uint8Array): { what: string; datagram: Uint8Array } | undefined {
  if (request[0] !== 0 || request.length > 12) return undefined;
  if (request[1] === 0) return { what: "address", datagram: Uint8Array.of(0, 128, 0, 0, 0, 0, 0, 9, 203, 0, 113, 9) };
  const lifetime = request.subarray(8, 12);
  const what = lifetime.every((byte) => byte === 0) ? "release" : "map";
  const head = Uint8Array.of(0, 129, 0, 0, 0, 0, 0, 9);
  return { what, datagram: concat(head, request.subarray(4, 6), request.subarray(4, 6), lifetime) };
}

test("a mapping is told when the relay's token has come in, and not before", async () => {
  const bench = new Bench();
  await bench.mapping.start(GATEWAY, OUTSIDE.port);
  await bench.clock.advance(3 * SECOND);
  assert.deepEqual([bench.told, bench.tokens.length > 0], [[], true]);
  assert.equal(bench.dialedBack(systemRandom(16)), true, "a stranger's token is a dial-back, and proves nothing");
  assert.deepEqual(bench.told, []);
  bench.dialedBack();
  assert.deepEqual(bench.told, [formatEndpoint(OUTSIDE)]);
  assert.deepEqual([bench.mapping.seen, bench.mapping.status?.kind], [["natpmp"], "mapped"]);
});

test("a relay that is there a little later is asked then", async () => {
  const bench = new Bench();
  bench.relayIsThere = false;
  await bench.mapping.start(GATEWAY, OUTSIDE.port);
  await bench.clock.advance(5 * SECOND);
  assert.ok(bench.tokens.length >= 2);
  assert.equal(new Set(bench.tokens.map(String)).size, 1, "the same token, as long as it is the same mapping");
});

test("a mapping that nothing comes in by is given back, and not told", async () => {
  const bench = new Bench();
  await bench.mapping.start(GATEWAY, OUTSIDE.port);
  await bench.clock.advance(VERIFY_MS + 5 * SECOND);
  assert.deepEqual(bench.told, []);
  assert.ok(bench.asked.includes("release"));
  assert.equal(bench.mapping.status?.kind, "none");
  bench.dialedBack();
  assert.deepEqual(bench.told, [], "too late");
});

test("only the router is believed", async () => {
  const bench = new Bench();
  bench.router = parseEndpoint("192.168.7.66:5351");
  await bench.mapping.start(GATEWAY, OUTSIDE.port);
  await bench.clock.advance(MINUTE);
  assert.deepEqual([bench.tokens, bench.mapping.seen], [[], []]);
});

test("another network takes the mapping's word back at once; the same router is not asked twice", async () => {
  const bench = new Bench();
  await bench.mapping.start(GATEWAY, OUTSIDE.port);
  await bench.clock.advance(3 * SECOND);
  bench.dialedBack();
  const asked = bench.asked.length;
  await bench.mapping.start(GATEWAY, OUTSIDE.port);
  await bench.clock.advance(SECOND);
  assert.equal(bench.asked.length, asked);
  bench.mapping.abandon();
  assert.deepEqual(bench.told, [formatEndpoint(OUTSIDE), undefined]);
  assert.equal(bench.open, 0, "its sockets are closed");
});

test("at the end the mapping is given back before the sockets are closed", async () => {
  const bench = new Bench();
  await bench.mapping.start(GATEWAY, OUTSIDE.port);
  await bench.clock.advance(3 * SECOND);
  bench.dialedBack();
  const stopped = bench.mapping.stop();
  assert.equal(bench.asked.at(-1), "release");
  assert.equal(bench.open, 3);
  await bench.clock.advance(SECOND);
  await stopped;
  await settled();
  assert.equal(bench.open, 0);
});

test("what is no dial-back is somebody else's", () => {
  const bench = new Bench();
  for (const stray of [utf8("EXND"), new Uint8Array(21), concat(utf8("EXND"), new Uint8Array(17))])
    assert.equal(bench.mapping.receive(stray), false);
});
