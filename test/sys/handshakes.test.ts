import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:https";
import { type AddressInfo, connect, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { before, type TestContext, test } from "node:test";
import { connect as connectTls } from "node:tls";
import { localFiles } from "../../src/sys/files.js";
import { HANDSHAKE_LIMITS, type HandshakeLimits, queueHandshakes } from "../../src/sys/handshakes.js";
import { keepTlsIdentity } from "../../src/sys/tls.js";

/** A real TLS server with few places. */
const LIMIT = { timeout: 20_000 };
let key: string;
let cert: string;
before(async () => {
  const folder = await mkdtemp(join(tmpdir(), "exn-handshakes-"));
  const paths = { key: join(folder, "tls.key"), certificate: join(folder, "tls.crt") };
  ({ key, certificate: cert } = await keepTlsIdentity(localFiles, paths, ["localhost"], Date.now()));
  await rm(folder, { recursive: true });
});

async function open(t: TestContext, limits: Partial<HandshakeLimits>, connectionsMax = 100) {
  const server: Server = createServer({ key, cert }, (_, response) => response.end("served"));
  const sockets = new Set<Socket>();
  queueHandshakes(server, connectionsMax, { ...HANDSHAKE_LIMITS, ...limits });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  t.after(async () => {
    for (const socket of sockets) socket.destroy();
    server.close();
    await once(server, "close");
  });
  const kept = <T extends Socket>(socket: T): T => {
    sockets.add(socket);
    return socket.on("error", () => undefined);
  };
  return {
    /** Connects and says nothing. */
    silent: async (): Promise<Socket> => {
      const socket = kept(connect(port, "127.0.0.1"));
      await once(socket, "connect");
      return socket;
    },
    /** Shakes hands and says nothing more. */
    secure: async (): Promise<Socket> => {
      const socket = kept(connectTls({ port, host: "127.0.0.1", rejectUnauthorized: false }));
      await once(socket, "secureConnect");
      return socket;
    },
    /** The answer to a request, or "turned away". */
    ask: (): Promise<string> =>
      new Promise((resolve) => {
        const socket = kept(connectTls({ port, host: "127.0.0.1", rejectUnauthorized: false }));
        let said = "";
        socket.on("secureConnect", () => socket.write("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
        socket.on("data", (text) => {
          said += text;
        });
        socket.on("close", () => resolve(/served$/.test(said) ? "served" : "turned away"));
      }),
  };
}

/** The beginning of a ClientHello (RFC 8446 §5.1), and no more of it. */
const HALF_A_HELLO = Uint8Array.of(22, 3, 1, 2, 0, 1);

test("many more than are worked on at once are all served, one after the other", LIMIT, async (t) => {
  const server = await open(t, { pendingMax: 2, beginMax: 1 });
  const answers = await Promise.all(Array.from({ length: 40 }, () => server.ask()));
  assert.deepEqual([...new Set(answers)], ["served"]);
});

for (const { name, limits, connectionsMax } of [
  { name: "when all connections are taken", limits: { pendingMax: 1 }, connectionsMax: 3 },
  { name: "when too many wait", limits: { pendingMax: 1, waitingMax: 3 }, connectionsMax: 100 },
  { name: "after a while", limits: { silentMs: 50 }, connectionsMax: 100 },
])
  test(`those who connect and say nothing hold nobody up, and are cut ${name}`, LIMIT, async (t) => {
    const server = await open(t, limits, connectionsMax);
    const first = await server.silent();
    const ended = once(first.resume(), "close");
    for (let n = 0; n < 2; n++) await server.silent();
    assert.equal(await server.ask(), "served");
    await ended;
  });

test("who begins a handshake and does not go on loses the place to one who waits", LIMIT, async (t) => {
  const server = await open(t, { pendingMax: 2, patienceMs: 100 });
  for (let n = 0; n < 2; n++) (await server.silent()).write(HALF_A_HELLO);
  assert.deepEqual(await Promise.all([server.ask(), server.ask()]), ["served", "served"]);
});

test("who has waited too long is not begun with, and is served when coming again", LIMIT, async (t) => {
  const server = await open(t, { pendingMax: 1, patienceMs: 1_000, waitMs: 50 });
  (await server.silent()).write(HALF_A_HELLO);
  assert.equal(await server.ask(), "turned away", "the place comes free after a second");
  assert.equal(await server.ask(), "served");
});

test("nobody is let in beyond the connections that there may be", LIMIT, async (t) => {
  const server = await open(t, {}, 1);
  const only = await server.secure();
  assert.equal(await server.ask(), "turned away");
  only.destroy();
  let answer = await server.ask();
  // Its end may be seen after the next connection.
  while (answer !== "served") answer = await server.ask();
});
