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
const LIMIT = { timeout: 60_000 };
/** Longer than a test: what takes it does not come. */
const NEVER_MS = 600_000;
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
  server.on("connection", (socket: Socket) => {
    const { remotePort } = socket;
    socket.once("readable", () => server.emit("heard", remotePort));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  t.after(async () => {
    server.close();
    for (const socket of sockets) socket.destroy();
    await once(server, "close");
  });
  const kept = <T extends Socket>(socket: T): T => {
    sockets.add(socket);
    return socket.on("error", () => undefined);
  };
  return {
    /** When the server has the first bytes of a client's. */
    hears: (client: Socket): Promise<void> =>
      new Promise((resolve) => {
        server.on("heard", (port: number) => {
          if (port === client.localPort) resolve();
        });
      }),
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
    /** Opens so many connections that say no more than this, and another one whenever one of them has ended. */
    flood: (count: number, said: Uint8Array): Promise<void> =>
      new Promise((resolve) => {
        let connected = 0;
        const again = (): void => {
          if (!server.listening) return;
          const socket = kept(connect(port, "127.0.0.1"));
          socket.on("connect", () => {
            socket.write(said);
            if (++connected === count) resolve();
          });
          socket.resume().on("close", again);
        };
        for (let i = 0; i < count; i++) again();
      }),
    /** The answer to a request, or "turned away". */
    ask: (localAddress = "127.0.0.1"): Promise<string> =>
      new Promise((resolve) => {
        const below = kept(connect({ port, host: "127.0.0.1", localAddress }));
        const socket = kept(connectTls({ socket: below, rejectUnauthorized: false }));
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
  { name: "after a while", limits: { silentMs: 2_000 }, connectionsMax: 100 },
])
  test(`those who connect and say nothing hold nobody up, and are cut ${name}`, LIMIT, async (t) => {
    const server = await open(t, limits, connectionsMax);
    const first = await server.silent();
    const ended = once(first.resume(), "close");
    for (let n = 0; n < 2; n++) await server.silent();
    assert.equal(await server.ask(), "served");
    await ended;
  });

test("who begins a handshake and does not go on is cut, and then one who waits is begun with", LIMIT, async (t) => {
  const server = await open(t, { pendingMax: 1, patienceMs: 2_000 });
  const first = await server.silent();
  first.write(HALF_A_HELLO);
  const ended = once(first.resume(), "close");
  assert.equal(await server.ask(), "served");
  await ended;
});

test("who does not go on is cut where nobody waits as well", LIMIT, async (t) => {
  const server = await open(t, { patienceMs: 100 });
  const only = await server.silent();
  only.write(HALF_A_HELLO);
  await once(only.resume(), "close");
});

for (const { what, said } of [
  { what: "says nothing", said: new Uint8Array() },
  { what: "begins handshakes and never goes on", said: HALF_A_HELLO },
])
  test(
    `one address that opens connections without end and ${what} holds up nobody from elsewhere`,
    LIMIT,
    async (t) => {
      const limits = { waitingMax: 8, pendingMax: 8, silentMs: NEVER_MS, patienceMs: NEVER_MS, waitMs: NEVER_MS };
      const server = await open(t, limits);
      await server.flood(50, said);
      for (let i = 0; i < 5; i++) assert.equal(await server.ask("127.0.0.2"), "served");
    },
  );

test("all the places are for one address while nobody else comes", LIMIT, async (t) => {
  const server = await open(t, { waitingMax: 50, pendingMax: 8 });
  const answers = await Promise.all(Array.from({ length: 50 }, () => server.ask()));
  assert.deepEqual([...new Set(answers)], ["served"]);
});

test("who resets the connection while it waits for its turn harms nobody", LIMIT, async (t) => {
  const server = await open(t, { pendingMax: 1, patienceMs: 2_000 });
  for (let n = 0; n < 2; n++) {
    const client = await server.silent();
    const heard = server.hears(client);
    client.write(HALF_A_HELLO);
    await heard;
    if (n === 1) client.resetAndDestroy();
  }
  assert.equal(await server.ask(), "served");
});

test("who has waited too long is not begun with, and is served when coming again", LIMIT, async (t) => {
  const server = await open(t, { pendingMax: 1, patienceMs: 3_000, waitMs: 1_000 });
  const first = await server.silent();
  const heard = server.hears(first);
  first.write(HALF_A_HELLO);
  await heard;
  assert.equal(await server.ask(), "turned away", "the place comes free after three seconds");
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
