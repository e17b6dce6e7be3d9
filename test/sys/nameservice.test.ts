import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { connect, createServer } from "node:net";
import { test } from "node:test";
import { parseIp } from "../../src/kit/ip.js";
import { type AnswerName, localNameService, type NameTransport } from "../../src/sys/nameservice.js";

/** Real sockets on loopback. */
const LIMIT = { timeout: 60_000 };
const ADDRESSES = ["127.0.0.1", "::1"].map(parseIp);
const REVERSED: AnswerName = async (query) => query.slice().reverse();
const any = { timeoutMs: 20_000, isReply: () => true };
/** Longer than a test: what takes it does not come. */
const NEVER_MS = 600_000;

for (const over of ["udp", "tcp"] as const satisfies readonly NameTransport[])
  for (const address of ADDRESSES)
    test(`over ${over} a question to ${address} gets its answer, on the one port`, LIMIT, async () => {
      const served = await localNameService.serve(REVERSED);
      const reply = await localNameService.ask({ address, port: served.port }, Uint8Array.of(1, 2, 3), {
        ...any,
        over,
      });
      assert.deepEqual([...(reply ?? [])], [3, 2, 1]);
      await served.close();
      const closed = await localNameService.ask({ address, port: served.port }, Uint8Array.of(1), { ...any, over });
      assert.equal(closed, undefined);
    });

test("a silent server is given up after the time, and a port that nobody listens on at once", LIMIT, async () => {
  const served = await localNameService.serve(async () => undefined);
  const to = { address: parseIp("127.0.0.1"), port: served.port };
  for (const over of ["udp", "tcp"] as const) {
    const startedAt = performance.now();
    assert.equal(await localNameService.ask(to, Uint8Array.of(1), { ...any, over, timeoutMs: 150 }), undefined);
    assert.ok(performance.now() - startedAt >= 140);
  }
  await served.close();
  const none = await localNameService.ask(to, Uint8Array.of(1), { ...any, over: "udp", timeoutMs: NEVER_MS });
  assert.equal(none, undefined);
});

test("what is no reply is waited past, and a stranger's datagram is not even looked at", LIMIT, async () => {
  const server = createSocket("udp4").bind(0, "127.0.0.1");
  await once(server, "listening");
  const stranger = createSocket("udp4");
  const looked: number[] = [];
  server.on("message", (_, from) => {
    stranger.send(Uint8Array.of(9), from.port, "127.0.0.1", () => {
      server.send(Uint8Array.of(1), from.port, from.address);
      server.send(Uint8Array.of(2), from.port, from.address);
    });
  });
  const reply = await localNameService.ask(
    { address: parseIp("127.0.0.1"), port: server.address().port },
    Uint8Array.of(0),
    {
      ...{ over: "udp", timeoutMs: 20_000 },
      isReply: (message) => {
        looked.push(message[0] ?? 0);
        return message[0] === 2;
      },
    },
  );
  assert.deepEqual([[...(reply ?? [])], looked], [[2], [1, 2]]);
  server.close();
  stranger.close();
});

test("questions in one conversation are answered in turn, however TCP cuts them", LIMIT, async () => {
  const served = await localNameService.serve(REVERSED);
  const socket = connect(served.port, "127.0.0.1");
  const frames = Uint8Array.of(0, 2, 1, 2, 0, 3, 4, 5, 6, 0, 1, 7);
  for (const byte of frames) socket.write(Uint8Array.of(byte));
  const heard: number[] = [];
  for await (const chunk of socket) {
    heard.push(...chunk);
    if (heard.length >= frames.length) break;
  }
  assert.deepEqual(heard, [0, 2, 2, 1, 0, 3, 6, 5, 4, 0, 1, 7]);
  await served.close();
});

test("a question goes out from the address that is wanted, or not at all", LIMIT, async () => {
  let came: string | undefined;
  const server = createServer((socket) => {
    came = socket.remoteAddress;
    socket.end(Uint8Array.of(0, 1, 0));
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const bound = server.address();
  const port = typeof bound === "object" && bound !== null ? bound.port : 0;
  const to = { address: parseIp("127.0.0.1"), port };
  const from = parseIp("127.9.9.9");
  await localNameService.ask(to, Uint8Array.of(0), { ...any, over: "tcp", from });
  const missing = { ...any, from: parseIp("192.0.2.1") };
  const none = await localNameService.ask(to, Uint8Array.of(0), { ...missing, over: "udp" });
  server.close();
  assert.equal(came, from);
  assert.equal(none, undefined);
});
