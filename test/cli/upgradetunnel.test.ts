import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { decode, encode } from "dns-packet";
import { ControlClient } from "../../src/agent/control.js";
import { connectionRequest, datagram, datagramIn } from "../../src/cli/upgradepackets.js";
import { tryTunnel } from "../../src/cli/upgradetunnel.js";
import { keyPairOf } from "../../src/kit/crypto.js";
import { Failure } from "../../src/kit/failure.js";
import { hostCidr, type Ip, ipFromBytes, parseCidr, parseIp } from "../../src/kit/ip.js";
import { keyOf } from "../../src/kit/key.js";
import type { Admin } from "../../src/provision/admin.js";
import { systemClock } from "../../src/sys/clock.js";
import { openDatagramSocket } from "../../src/sys/dgram.js";
import { systemRandom } from "../../src/sys/random.js";
import { dialWebSocket } from "../../src/sys/websocket.js";
import type { CreatedKey, DeviceInfo } from "../../src/wire/adminapi.js";
import { decodeJoinKey, encodeJoinKey } from "../../src/wire/joinkey.js";
import { lockKeyOf, signRecord } from "../../src/wire/lock.js";
import { Device, type Effect } from "../../src/wireguard/device.js";
import { type Bench, openBench } from "../coordinator/bench.js";
import { until } from "../engine/patience.js";

/** The tool's own device against a real coordinator and real handshakes; the exit node is one in this process. */
const ADDRESS = parseIp("127.77.5.1");
const PORT = 51_820;
const RESOLVER = parseIp("198.51.100.53");
const WEB = parseIp("198.51.100.80");

let bench: Bench;
let exit: Awaited<ReturnType<typeof openExit>>;
before(async () => {
  bench = await openBench();
  exit = await openExit();
});
after(async () => {
  await exit.close();
  await bench.close();
});

/** What the Internet behind the exit node does. */
const outside = { answersPing: true, answersWeb: true };

async function openExit() {
  const { secret } = await bench.key({ role: "exit-node", name: "home" });
  const privateKey = systemRandom(32);
  const socket = await openAtPort();
  const device = new Device({ random: systemRandom, wallMs: () => systemClock.wall() });
  const stop = new AbortController();
  let joined: () => void = () => undefined;
  const ready = new Promise<void>((resolve) => {
    joined = resolve;
  });
  const carryOut = (effects: readonly Effect[]): void => {
    for (const effect of effects)
      if (effect.kind === "send") socket.send(effect.to, effect.datagram);
      else for (const answer of answersTo(effect.packet)) carryOut(device.send(answer, systemClock.now()));
  };
  socket.onReceive = (bytes, from) => carryOut(device.receive(bytes, from, systemClock.now()));
  const client = new ControlClient(
    { dial: dialWebSocket, clock: systemClock, random: systemRandom },
    {
      urls: [`https://127.0.0.1:${bench.coordinator.port}`],
      coordinatorKey: bench.coordinator.publicKey,
      machineKey: keyPairOf(systemRandom(32)),
      hello: () => ({
        agentVersion: "test",
        name: "home",
        publicKey: keyOf(keyPairOf(privateKey).publicKey),
        joinSecret: secret,
        report: { endpoints: [], routes: [parseCidr("0.0.0.0/0")], resolvers: [RESOLVER] },
      }),
    },
    {
      onMap: (map) => {
        const peers = map.peers.map(({ publicKey, addresses }) => ({
          publicKey,
          allowedIps: addresses.map(hostCidr),
          persistentKeepaliveSeconds: 0,
        }));
        carryOut(device.configure({ privateKey: keyOf(privateKey), peers }, systemClock.now()));
        joined();
      },
      onRefused: ({ message }) => assert.fail(message),
      onState: () => undefined,
    },
  );
  const running = client.run(stop.signal);
  await ready;
  return {
    async close() {
      stop.abort();
      await running;
      socket.close();
    },
  };
}

/** The port is WireGuard's, and the kernel may have lent it for a while to somebody who asked for any. */
async function openAtPort(): ReturnType<typeof openDatagramSocket> {
  const opened: Awaited<ReturnType<typeof openDatagramSocket>>[] = [];
  await until("nobody else has the port", () =>
    openDatagramSocket(PORT, ADDRESS).then(
      (socket) => opened.push(socket) > 0,
      (error: unknown) => {
        assert.ok(error instanceof Failure && error.code === "port-taken", String(error));
        return false;
      },
    ),
  );
  return opened[0] ?? assert.fail("it is open");
}

function answersTo(packet: Uint8Array): Uint8Array[] {
  const [from, to] = [ipFromBytes(packet.subarray(12, 16)), ipFromBytes(packet.subarray(16, 20))];
  const protocol = packet[9];
  if (protocol === 1 && outside.answersPing) {
    const reply = packet.slice();
    reply.set(packet.subarray(16, 20), 12);
    reply.set(packet.subarray(12, 16), 16);
    reply[20] = 0;
    return [reply];
  }
  const question = datagramIn(packet, { from, to: RESOLVER }, { from: 40_000, to: 53 });
  if (question !== undefined) {
    const { id, questions } = decode(Buffer.from(question));
    assert.equal(questions?.[0]?.name, "whoami.example");
    const answers = [{ type: "A" as const, name: "whoami.example", data: WEB }];
    const content = encode({ type: "response", ...(id === undefined ? {} : { id }), answers });
    return [datagram({ from: RESOLVER, to: from }, { from: 53, to: 40_000 }, content)];
  }
  if (protocol === 6 && to === WEB && outside.answersWeb) {
    const answer = connectionRequest({ from: to, to: from }, { from: 443, to: 40_000 }, 7);
    answer[33] = 0x12;
    return [answer];
  }
  return [];
}

const admin: Admin = {
  async createKey(request) {
    const created = (await bench.call("POST", "/api/v1/keys", request)).body as CreatedKey;
    const urls = [`https://127.0.0.1:${bench.coordinator.port}`];
    return { ...created, joinKey: encodeJoinKey({ ...decodeJoinKey(created.joinKey), urls }) };
  },
  devices: async () => ((await bench.call("GET", "/api/v1/devices")).body as { devices: DeviceInfo[] }).devices,
  async forget(id) {
    await bench.call("DELETE", `/api/v1/devices/${id}`);
  },
};

const tried = (address: Ip = ADDRESS): Promise<string | undefined> =>
  tryTunnel(
    { clock: systemClock, random: systemRandom, signal: new AbortController().signal },
    { name: "home", address, admin, whoami: ["https://whoami.example"] },
  );
const names = async (): Promise<string[]> => (await admin.devices()).map(({ name }) => name);

test("a device of the tool's own comes through the exit node into the Internet, and is gone afterwards", async () => {
  outside.answersPing = outside.answersWeb = true;
  assert.equal(await tried(), undefined);
  assert.deepEqual(await names(), ["home"]);
});

test("an exit node that carries nothing is told of, as is one that only reaches itself", async () => {
  outside.answersPing = false;
  assert.match((await tried()) ?? "", /^no answer through the tunnel from 100\.64\.0\.1, by 127\.77\.5\.1 udp\/51820$/);
  outside.answersPing = true;
  outside.answersWeb = false;
  assert.match((await tried()) ?? "", /^through the tunnel: no answer from whoami\.example \(198\.51\.100\.80\)$/);
  assert.deepEqual(await names(), ["home"]);
});

test("one that a killed run left is taken away by the next", async () => {
  outside.answersPing = outside.answersWeb = true;
  const { secret } = await bench.key({ role: "device", name: "check-home" });
  const left = bench.device("check-home", secret);
  await left.sees("home");
  assert.deepEqual((await names()).sort(), ["check-home", "home"]);
  assert.equal(await tried(), undefined);
  assert.deepEqual(await names(), ["home"]);
});

test("with a device lock it cannot be tried, and the reason is the lock", async () => {
  const own = lockKeyOf(systemRandom(32));
  const trust = { lock: "0".repeat(32), version: 1, secretHash: "0".repeat(64), keys: [own.key], shutOut: [] };
  const { status } = await bench.call("POST", "/api/v1/lock", { record: signRecord(own, trust) });
  assert.equal(status, 200);
  assert.match((await tried()) ?? "", /device lock/);
  assert.deepEqual(await names(), ["home"]);
});
