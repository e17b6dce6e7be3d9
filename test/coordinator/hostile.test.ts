import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { connect } from "node:tls";
import { LOBBY_MAX } from "../../src/coordinator/lobby.js";
import { MESSAGES_BURST } from "../../src/coordinator/reception.js";
import { utf8 } from "../../src/kit/bytes.js";
import { keyPairOf } from "../../src/kit/crypto.js";
import { keyOf } from "../../src/kit/key.js";
import { systemRandom } from "../../src/sys/random.js";
import { encodeControl } from "../../src/wire/control.js";
import { ADMIN_TOKEN, type Bench, openBench, unhurriedClock } from "./bench.js";
import { greetRaw, joinRaw, openRaw, type Raw, startRaw } from "./rawdevice.js";

const LIMIT = { timeout: 120_000 };
let bench: Bench;
before(async () => {
  bench = await openBench({ parts: { clock: unhurriedClock } });
});
after(() => bench.close());

test("what is no handshake ends the connection", LIMIT, async () => {
  for (const junk of [new Uint8Array(0), utf8("GET / HTTP/1.1"), systemRandom(96), systemRandom(60_000)]) {
    const raw = await openRaw(bench);
    await raw.socket.send(junk);
    await raw.closed;
  }
});

test("a message longer than a device ever sends ends the connection", LIMIT, async () => {
  const raw = await openRaw(bench);
  raw.socket.send(systemRandom(80_000)).catch(() => undefined); // it may be cut while we write
  await raw.closed;
});

test("an altered message of a member ends its connection, and shows it offline", LIMIT, async () => {
  const watcher = await bench.device("watcher", (await bench.key({ role: "device" })).secret).until((d) => !!d.map);
  const member = await joinRaw(bench, "victim");
  await watcher.sees("victim");
  const message = member.transport.seal(encodeControl({ type: "ping", sentAt: 1 }));
  message[0] = (message[0] ?? 0) ^ 1;
  await member.socket.send(message);
  await member.closed;
  await watcher.until(({ map }) => map?.peers.find(({ name }) => name === "victim")?.online === false);
});

test("a replayed first message lets nobody in: the sender cannot say hello", LIMIT, async () => {
  const recorded = startRaw(bench).message;
  const raw = await openRaw(bench);
  await raw.socket.send(recorded);
  await raw.next();
  await raw.socket.send(systemRandom(400));
  await raw.closed;
});

test("a member that floods is cut off", LIMIT, async () => {
  const member = await joinRaw(bench, "flooder");
  const ping = encodeControl({ type: "ping", sentAt: 1 });
  for (let n = 0; n < 3 * MESSAGES_BURST; n++) member.socket.send(member.transport.seal(ping)).catch(() => undefined);
  await member.closed;
});

test("strangers hold a bounded number of connections, and a device still gets in through a flood", LIMIT, async () => {
  const strangers: Raw[] = [];
  // Some at a time: each handshake has its own time limit, and one process makes all of them.
  while (strangers.length < LOBBY_MAX + 40)
    strangers.push(...(await Promise.all(Array.from({ length: 8 }, () => openRaw(bench)))));
  assert.ok(bench.coordinator.strangers() <= LOBBY_MAX);
  // The oldest made room.
  await strangers[0]?.closed;
  const device = bench.device("through", (await bench.key({ role: "device" })).secret);
  await device.until(({ map }) => map !== undefined);
  for (const { socket } of strangers) socket.terminate();
});

test("a second connection of a machine replaces the first", LIMIT, async () => {
  const machineKey = keyPairOf(systemRandom(32));
  const first = await joinRaw(bench, "twice", machineKey);
  await joinRaw(bench, "twice", machineKey);
  await first.closed;
});

test("two machines cannot bring the same WireGuard key", LIMIT, async () => {
  const publicKey = keyOf(keyPairOf(systemRandom(32)).publicKey);
  await joinRaw(bench, "owner", keyPairOf(systemRandom(32)), publicKey);
  const thief = await greetRaw(bench, "thief", keyPairOf(systemRandom(32)), publicKey);
  assert.deepEqual(thief.answer.type === "refused" && thief.answer.code, "key-taken");
});

test("the API is closed without the token, and to an address that keeps guessing", LIMIT, async () => {
  assert.equal((await bench.call("GET", "/healthz", undefined, "")).status, 200);
  for (const token of ["", "wrong", `${ADMIN_TOKEN}x`]) {
    const { status, body } = await bench.call("GET", "/api/v1/devices", undefined, token);
    assert.equal(status, 401);
    assert.equal((body as { code: string }).code, "token-refused");
  }
  const statuses: number[] = [];
  for (let n = 0; n < 30; n++) statuses.push((await bench.call("GET", "/api/v1/status", undefined, "guess")).status);
  assert.equal(statuses.at(-1), 429);
});

test("a path that is no WebSocket's is not upgraded", LIMIT, async () => {
  const socket = connect({ host: "127.0.0.1", port: bench.coordinator.port, rejectUnauthorized: false });
  socket.write(
    "GET /elsewhere HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
  );
  let answer = "";
  for await (const chunk of socket) answer += String(chunk);
  assert.match(answer, /^HTTP\/1\.1 404 /);
});
