import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { RelayDialer } from "../../src/agent/relaydial.js";
import { openRelay } from "../../src/cli/relaydaemon.js";
import { openRelayStun } from "../../src/cli/relaystun.js";
import { toHex, utf8 } from "../../src/kit/bytes.js";
import { Failure } from "../../src/kit/failure.js";
import { parseIp } from "../../src/kit/ip.js";
import { keyOf } from "../../src/kit/key.js";
import { decodeStunAnswer, encodeStunRequest } from "../../src/nat/stun.js";
import { STUN_ANSWERS_PER_SECOND, serveStun } from "../../src/relay/stunserver.js";
import { systemClock } from "../../src/sys/clock.js";
import { type DatagramSocket, openDatagramSocket } from "../../src/sys/dgram.js";
import { HANDSHAKE_LIMITS } from "../../src/sys/handshakes.js";
import { listenOn } from "../../src/sys/listening.js";
import { systemRandom } from "../../src/sys/random.js";
import { dialStream } from "../../src/sys/streamdial.js";
import { decodeRelayConfig } from "../../src/wire/relayconfig.js";
import { LabClock } from "../agent/labclock.js";
import { freePort } from "../coordinator/freeport.js";
import { addressOf, SIGNERS } from "./relaylab.js";
import { TestDevice } from "./relayworld.js";

/** The relay as the daemon opens it: its files, its UDP sockets, and what answers on them. */
const LOOPBACK = parseIp("127.0.0.1");
const LIMIT = { timeout: 60_000 };
const folder = await mkdtemp(join(tmpdir(), "exn-relay-"));
const [stunPort, otherStunPort] = [await freePort(), await freePort()];
const config = decodeRelayConfig(
  {
    listen: { address: "::", port: 0 },
    ...{ stunPort, otherStunPort },
    coordinatorKeys: SIGNERS.map(keyOf),
    metrics: { port: 0 },
  },
  "the test",
);
const relay = await openRelay({ etc: folder, var: folder }, config);
const url = `https://127.0.0.1:${relay.port}`;
after(async () => {
  await relay.close();
  await rm(folder, { recursive: true });
});

test("STUN is answered on both ports, from the port that was asked, and nonsense gets nothing", LIMIT, async () => {
  assert.deepEqual([relay.stunPort, relay.otherStunPort], [stunPort, otherStunPort]);
  const socket = await openDatagramSocket(0, LOOPBACK);
  try {
    for (const port of [stunPort, otherStunPort]) {
      const answered = received(socket);
      const id = systemRandom(12);
      socket.send({ address: LOOPBACK, port }, utf8("what?"));
      socket.send({ address: LOOPBACK, port }, encodeStunRequest(id));
      const { datagram, from } = await answered;
      const mapped = { address: LOOPBACK, port: socket.port };
      assert.deepEqual(decodeStunAnswer(datagram), { kind: "success", transaction: id, mapped, software: undefined });
      assert.equal(from.port, port);
    }
  } finally {
    socket.close();
  }
  const metrics = await (await fetch(`http://127.0.0.1:${relay.metricsPort}/metrics`)).text();
  assert.match(metrics, /^exitnode_relay_stun_answers_total 2$/m);
  assert.match(metrics, /^exitnode_relay_stun_passed_over_total 2$/m);
});

test("STUN is answered over IPv6 as well", LIMIT, async () => {
  const socket = await openDatagramSocket(0, parseIp("::1"));
  try {
    const answered = received(socket);
    socket.send({ address: parseIp("::1"), port: otherStunPort }, encodeStunRequest(systemRandom(12)));
    const answer = decodeStunAnswer((await answered).datagram);
    assert.deepEqual(answer?.kind === "success" && answer.mapped, { address: "::1", port: socket.port });
  } finally {
    socket.close();
  }
});

test("a mapping is tried over UDP from a port that the device has never sent to", LIMIT, async () => {
  const mapped = await openDatagramSocket(0, LOOPBACK);
  const device = new TestDevice("mapped", url, true, relay.publicKey);
  try {
    await device.connected();
    const [heard, token] = [received(mapped), systemRandom(16)];
    device.client.dialBack({ port: mapped.port, token });
    const { datagram, from } = await heard;
    assert.equal(toHex(datagram), `45584e4444${toHex(token)}`);
    assert.ok(![stunPort, otherStunPort, relay.port].includes(from.port), `from port ${from.port}`);
  } finally {
    await device.stop();
    mapped.close();
  }
});

test("a second port that is taken is done without, a first one is a failure", LIMIT, async () => {
  const other = await freePort();
  const warned: string[] = [];
  const log = { debug() {}, info() {}, warn: (message: string) => void warned.push(message), error() {} };
  const stun = await openRelayStun({ stunPort: other, otherStunPort: stunPort }, log);
  assert.deepEqual([stun.stunPort, stun.otherStunPort], [other, 0]);
  assert.deepEqual(warned, ["STUN is answered on one port only"]);
  stun.close();
  await assert.rejects(
    openRelayStun({ stunPort, otherStunPort: other }),
    (error) => error instanceof Failure && error.code === "port-taken",
  );
  const none = await openRelayStun({ stunPort: 0, otherStunPort: other });
  assert.deepEqual([none.stunPort, none.otherStunPort], [0, 0]);
});

test("a flood over both ports is answered 20,000 times a second and no more", async () => {
  const clock = new LabClock();
  const sent: number[] = [];
  const sockets = [0, 1].map(
    (at): DatagramSocket => ({
      ...{ port: at + 1, onReceive: undefined, close: () => undefined },
      send: () => void sent.push(at),
    }),
  );
  const counters = serveStun(sockets, (datagram) => datagram, clock);
  const flood = (): void => {
    for (let i = 0; i < STUN_ANSWERS_PER_SECOND; i++)
      for (const socket of sockets) socket.onReceive?.(Uint8Array.of(1), { address: LOOPBACK, port: 9 });
  };
  flood();
  assert.deepEqual([sent.length, counters.answered], [STUN_ANSWERS_PER_SECOND, STUN_ANSWERS_PER_SECOND]);
  assert.equal(sent.filter((at) => at === 0).length, STUN_ANSWERS_PER_SECOND / 2);
  await clock.advance(500);
  flood();
  assert.equal(counters.answered, 1.5 * STUN_ANSWERS_PER_SECOND);
  assert.equal(counters.answered + counters.passedOver, counters.requests);
});

test("the home's own URL carries datagrams where the public one leads nowhere, and stays open", LIMIT, async () => {
  const { createServer } = await import("node:net");
  // A port that takes connections and says nothing, as a router that swallows what does not lead back in.
  const silent = createServer((socket) => socket.on("error", () => undefined));
  await listenOn(silent, "127.0.0.1", 0);
  const address = silent.address();
  const silentPort = address !== null && typeof address === "object" ? address.port : assert.fail("no port");
  const dialer = new RelayDialer(dialStream, systemClock, [`https://127.0.0.1:${silentPort}`, url]);
  const inside = new TestDevice("inside", url, true, relay.publicKey, undefined, dialer.dial);
  const outside = new TestDevice("outside", url, true, relay.publicKey);
  try {
    await Promise.all([inside.connected(), outside.connected()]);
    dialer.settle(true);
    assert.equal(dialer.first, url);
    outside.client.send(addressOf("inside"), utf8("hello"));
    await inside.until(() => inside.heard.length > 0);
    inside.client.send(addressOf("outside"), utf8("and back"));
    await outside.until(() => outside.heard.length > 0);
    assert.deepEqual(
      [inside, outside].map(({ states }) => states.filter(({ kind }) => kind === "waiting").length),
      [0, 0],
    );
  } finally {
    await Promise.all([inside.stop(), outside.stop()]);
    silent.close();
  }
});

for (const [what, said] of Object.entries({ "say nothing": [], "begin TLS and never go on": [22, 3, 1] }))
  test(
    `of a thousand from one address that ${what} none makes room, and a device from elsewhere is in`,
    LIMIT,
    async () => {
      const livedMs: number[] = [];
      const crowd = Array.from({ length: 1_000 }, () => {
        const at = performance.now();
        const socket = connect(relay.port, "127.0.0.1", () => socket.write(Uint8Array.from(said)));
        socket.on("error", () => undefined).resume();
        return socket.on("close", () => void livedMs.push(performance.now() - at));
      });
      await Promise.all(crowd.map((socket) => once(socket, "connect")));
      const device = new TestDevice("from elsewhere", `https://[::1]:${relay.port}`, true, relay.publicKey);
      await device.connected();
      const early = livedMs.filter((ms) => ms < HANDSHAKE_LIMITS.patienceMs);
      for (const socket of crowd) socket.destroy();
      await device.stop();
      assert.deepEqual(early, []);
    },
  );

function received(socket: DatagramSocket): Promise<{ datagram: Uint8Array; from: { port: number } }> {
  return new Promise((resolve) => {
    socket.onReceive = (datagram, from) => resolve({ datagram: new Uint8Array(datagram), from });
  });
}
