import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:https";
import { after, test } from "node:test";
import { connect } from "node:tls";
import { WebSocket } from "ws";
import { concat, toHex, utf8 } from "../../src/kit/bytes.js";
import { keyOf } from "../../src/kit/key.js";
import { adaptMessages } from "../../src/sys/bytestream.js";
import { boundPort, listenOn } from "../../src/sys/listening.js";
import type { DialStream } from "../../src/sys/streamdial.js";
import { dialWebSocket } from "../../src/sys/websocket.js";
import { encodeFrame, FRAME, HEADER_BYTES, RELAY_PATH, RELAY_PROTOCOL } from "../../src/wire/relay.js";
import { addressOf, admissionOf, datagramTo, framesIn, loginOf, machineOf } from "./relaylab.js";
import { openTestRelay, TestDevice, tls } from "./relayworld.js";

/** The relay where a proxy lets nothing but WebSockets through: the same frames, as the bytes of binary messages. */
const relay = await openTestRelay();
const WSS = `${relay.url.replace("https:", "wss:")}${RELAY_PATH}`;
const opened: TestDevice[] = [];
after(async () => {
  await Promise.all(opened.map((device) => device.stop()));
  await relay.close();
});

const dialMessages: DialStream = async (url, { timeoutMs, signal }) =>
  adaptMessages(await dialWebSocket(url.replace("https:", "wss:"), { messageBytesMax: 1_048_576, timeoutMs, signal }));

async function device(name: string, dial?: DialStream): Promise<TestDevice> {
  const made = new TestDevice(name, relay.url, true, undefined, undefined, dial);
  opened.push(made);
  await made.connected();
  return made;
}

test("a device behind WebSockets and one that is not reach each other, in order, up to the longest datagram", async () => {
  const [behind, plain] = [await device("behind", dialMessages), await device("plain")];
  const sizes = [...Array.from({ length: 500 }, (_, i) => 1 + i), 9_216];
  for (const size of sizes) {
    behind.client.send(addressOf("plain"), new Uint8Array(size));
    plain.client.send(addressOf("behind"), new Uint8Array(size));
  }
  for (const heard of [behind, plain]) {
    await heard.until(() => heard.heard.length === sizes.length);
    assert.deepEqual(
      heard.heard.map(({ datagram }) => datagram.length / 2),
      sizes,
    );
  }
});

test("behind a proxy that lets only WebSockets through a device finds that out by itself, and is connected", async () => {
  const refused: string[] = [];
  const proxy = createServer({ key: tls.key, cert: tls.certificate });
  proxy.on("upgrade", (request, socket) => {
    socket.on("error", () => undefined);
    const { upgrade = "" } = request.headers;
    if (upgrade !== "websocket") {
      refused.push(upgrade);
      socket.end("HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
      return;
    }
    const lines = request.rawHeaders.map((text, i) => (i % 2 === 0 ? `${text}: ` : `${text}\r\n`)).join("");
    const onward = connect({ host: "127.0.0.1", port: relay.port, rejectUnauthorized: false });
    onward.on("error", () => socket.destroy());
    onward.write(`GET ${request.url} HTTP/1.1\r\n${lines}\r\n`);
    socket.pipe(onward).pipe(socket);
  });
  await listenOn(proxy, "127.0.0.1", 0);
  const far = await device("far end");
  const behind = new TestDevice("proxied", `https://127.0.0.1:${boundPort(proxy)}`);
  opened.push(behind);
  await behind.connected();
  assert.deepEqual(refused, [RELAY_PROTOCOL]);
  behind.client.send(addressOf("far end"), utf8("through a proxy"));
  await far.until(() => far.heard.length > 0);
  assert.deepEqual(far.heard, [{ from: addressOf("proxied"), datagram: toHex(utf8("through a proxy")) }]);
  await behind.stop();
  proxy.close();
});

test("a revoked device is cut there too", async () => {
  const target = await device("cut behind", dialMessages);
  assert.equal(relay.service.revoke(keyOf(machineOf("cut behind").publicKey)), 1);
  assert.equal(await target.refusal(), "revoked");
});

test("a device is held to its rate there too, and nothing it sent is lost", async () => {
  const slow = await openTestRelay({ bytesPerSecondMax: 200_000 });
  const [sender, reader] = [
    new TestDevice("fast", slow.url, true, undefined, undefined, dialMessages),
    new TestDevice("counts", slow.url),
  ];
  opened.push(sender, reader);
  await Promise.all([sender.connected(), reader.connected()]);
  const at = performance.now();
  for (let i = 0; i < 400; i++) sender.client.send(addressOf("counts"), new Uint8Array(1_200));
  await reader.until(() => reader.heard.length === 400);
  const ms = performance.now() - at;
  await slow.close();
  // Half a megabyte: the first 64 KB may come at once, and the two last messages before they are charged.
  assert.ok(ms > 1_000, `${ms} ms`);
});

test("where a message ends does not matter: a login and a datagram in messages of one byte each arrive", async () => {
  const reader = await device("reader");
  const socket = new WebSocket(WSS, { rejectUnauthorized: false });
  await once(socket, "open");
  const send = (bytes: Uint8Array): void => bytes.forEach((_, i) => void socket.send(bytes.subarray(i, i + 1)));
  const login = loginOf("dribbler");
  let heard: Uint8Array = new Uint8Array();
  const next = async (type: number) => {
    for (;;) {
      const found = framesIn(heard).find((frame) => frame.type === type);
      if (found !== undefined) return found.body;
      const [message] = await once(socket, "message");
      heard = concat(heard, new Uint8Array(message));
    }
  };
  send(login.first);
  const transport = login.finish(await next(FRAME.reply)) ?? assert.fail("not the relay");
  send(encodeFrame(FRAME.login, transport.seal(admissionOf("dribbler", { now: Date.now() }))));
  await next(FRAME.welcome);
  send(datagramTo("reader", utf8("byte by byte")));
  await reader.until(() => reader.heard.length > 0);
  assert.deepEqual(reader.heard, [{ from: addressOf("dribbler"), datagram: toHex(utf8("byte by byte")) }]);
  socket.terminate();
});

for (const { name, message } of [
  { name: "a text", message: "hello" },
  { name: "a message longer than 64 KiB", message: new Uint8Array(65_537) },
  {
    name: "a frame that cannot be",
    message: Uint8Array.of(FRAME.initiation, 255, 255, ...new Uint8Array(HEADER_BYTES)),
  },
])
  test(`${name} ends the connection, and the relay serves on`, async () => {
    const socket = new WebSocket(WSS, { rejectUnauthorized: false });
    socket.on("error", () => undefined);
    await once(socket, "open");
    socket.send(message);
    await once(socket, "close");
    const still = await device(`still ${name}`, dialMessages);
    assert.ok(still.client.connected);
  });
