import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { after, test } from "node:test";
import { connect as connectSecure, type TLSSocket } from "node:tls";
import type { ByteStream } from "../../src/sys/bytestream.js";
import type { HandshakeLimits } from "../../src/sys/handshakes.js";
import type { Served } from "../../src/sys/listening.js";
import { dialStream } from "../../src/sys/streamdial.js";
import { serveStreams } from "../../src/sys/streamserver.js";
import { BINDING_HEADER, RELAY_PATH, RELAY_PROTOCOL } from "../../src/wire/relay.js";
import { dialOptions, tls } from "./relayworld.js";

/** Who comes to a relay's port and never becomes a connection of the relay's: real sockets. */
const LIMIT = { timeout: 60_000 };
const PATIENCE_MS = 400;
/** Far less than the patience of a relay as it ships, for a machine that has other things to do. */
const MUCH_LONGER_MS = 20 * PATIENCE_MS;
/** Longer than a test: what takes it does not come. */
const NEVER_MS = 600_000;
const WAITING_MAX = 8;

const accepted: ByteStream[] = [];
const serve = (limits: Partial<HandshakeLimits>): Promise<Served> =>
  serveStreams({
    ...{ address: "::", port: 0, ...tls, connectionsMax: 1_000 },
    limits,
    answer: () => ({ status: 404 }),
    streams: {
      path: RELAY_PATH,
      protocol: RELAY_PROTOCOL,
      bindingHeader: BINDING_HEADER,
      accept: (stream) => void accepted.push(stream),
    },
  });
const served = {
  /** As it ships. */
  patient: await serve({}),
  impatient: await serve({ silentMs: PATIENCE_MS, patienceMs: PATIENCE_MS }),
  /** Few places, which nobody loses for being slow. */
  small: await serve({ waitingMax: WAITING_MAX, pendingMax: WAITING_MAX, silentMs: NEVER_MS, patienceMs: NEVER_MS }),
};
after(() => Promise.all(Object.values(served).map((one) => one.close())));
const dial = ({ port }: Served, host = "127.0.0.1") =>
  dialStream(`https://${host}:${port}${RELAY_PATH}`, dialOptions());

async function openPlain({ port }: Served): Promise<Socket> {
  const socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
  socket.on("error", () => undefined);
  await once(socket, "connect");
  return socket;
}

async function openSecure(to: Served): Promise<TLSSocket> {
  const socket = connectSecure({ socket: await openPlain(to), rejectUnauthorized: false });
  socket.on("error", () => undefined);
  await once(socket, "secureConnect");
  return socket;
}

/** How long the other end leaves it open. This one never closes: it goes on writing until that is refused. */
async function held(socket: Socket): Promise<number> {
  const at = performance.now();
  const poke = (): void => void (socket.destroyed || socket.write("x", () => setImmediate(poke)));
  socket.on("end", poke);
  socket.resume();
  await new Promise((resolve) => socket.on("close", resolve));
  return performance.now() - at;
}

const REQUEST = `GET ${RELAY_PATH} HTTP/1.1\r\nHost: x\r\n`;
const STRANGERS: Readonly<Record<string, (to: Served) => Promise<Socket>>> = {
  "says nothing": openPlain,
  "begins TLS and never goes on": async (to) => {
    const socket = await openPlain(to);
    socket.write(Uint8Array.of(22, 3, 1));
    return socket;
  },
  "says nothing after TLS": openSecure,
  "never ends its headers": async (to) => {
    const socket = await openSecure(to);
    socket.write(`${REQUEST}Conn`);
    return socket;
  },
  "never sends the body it announced": async (to) => {
    const socket = await openSecure(to);
    socket.write("POST /revoke HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nx");
    return socket;
  },
  "asks for another protocol and stays": async (to) => {
    const socket = await openSecure(to);
    socket.write(`${REQUEST}Connection: Upgrade\r\nUpgrade: other\r\n\r\n`);
    return socket;
  },
  "upgrades at another path and stays": async (to) => {
    const socket = await openSecure(to);
    socket.write(`GET /else HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: ${RELAY_PROTOCOL}\r\n\r\n`);
    return socket;
  },
};
for (const [what, open] of Object.entries(STRANGERS))
  test(`who ${what} is cut within the patience there is`, LIMIT, async () => {
    const ms = await held(await open(served.impatient));
    assert.ok(ms < MUCH_LONGER_MS, `${ms} ms`);
  });

test("however many say nothing, only so many of them are there, and a device gets in and stays", LIMIT, async () => {
  const mute = await Promise.all(Array.from({ length: 20 * WAITING_MAX }, () => openPlain(served.small)));
  let out = 0;
  const enough = new Promise<void>((resolve) => {
    for (const socket of mute)
      void held(socket).then(() => {
        if (++out === mute.length - WAITING_MAX) resolve();
      });
  });
  const count = accepted.length;
  const streams = [await dial(served.small), await dial(served.small)];
  assert.equal(accepted.length, count + 2);
  await enough;
  // Those that got in are beyond the bound: they stay however many come.
  const more = await Promise.all(Array.from({ length: 2 * WAITING_MAX }, () => openPlain(served.small)));
  const answered = new Promise<void>((resolve) => {
    streams[0]?.listen({ data: () => resolve(), written: () => undefined, closed: () => undefined });
  });
  accepted[count]?.write([Uint8Array.of(1)]);
  await answered;
  for (const socket of [...mute, ...more]) socket.destroy();
  for (const stream of streams) stream.terminate();
});

const FLOODS: Readonly<Record<string, (port: number) => Socket>> = {
  "says nothing": (port) => connect(port, "127.0.0.1"),
  "begins TLS and never goes on": (port) => {
    const socket = connect(port, "127.0.0.1", () => socket.write(Uint8Array.of(22, 3, 1)));
    return socket;
  },
  "says nothing after TLS": (port) => connectSecure({ port, host: "127.0.0.1", rejectUnauthorized: false }),
};
for (const [what, open] of Object.entries(FLOODS))
  test(
    `one address that opens connections without end and ${what} keeps out nobody from elsewhere`,
    LIMIT,
    async () => {
      const flood = new Set<Socket>();
      let over = false;
      const again = (): void => {
        if (over) return;
        const socket = open(served.small.port);
        flood.add(socket);
        socket.on("error", () => undefined).resume();
        socket.on("close", () => {
          flood.delete(socket);
          again();
        });
      };
      for (let i = 0; i < 20 * WAITING_MAX; i++) again();
      try {
        for (let i = 0; i < 5; i++) (await dial(served.small, "[::1]")).terminate();
      } finally {
        over = true;
        for (const socket of flood) socket.destroy();
      }
    },
  );

const UPGRADE = `${REQUEST}Connection: Upgrade\r\nUpgrade: ${RELAY_PROTOCOL}\r\n\r\n`;

test(
  "a device's request is taken wherever it was cut in two, and its first words come with it or after it",
  LIMIT,
  async () => {
    const whole = `${UPGRADE}hello`;
    for (const at of [1, REQUEST.length, UPGRADE.length - 1, UPGRADE.length, whole.length]) {
      const count = accepted.length;
      const socket = await openSecure(served.patient);
      socket.write(whole.slice(0, at));
      // By the time that another one has its TLS, the first piece has been read.
      (await openSecure(served.patient)).destroy();
      socket.write(whole.slice(at));
      const [answer] = await once(socket, "data");
      assert.match(String(answer), /^HTTP\/1\.1 101 /, `cut at ${at}`);
      const stream = accepted[count] ?? assert.fail(`not accepted, cut at ${at}`);
      assert.equal(await firstWords(stream, 5), "hello", `cut at ${at}`);
      socket.destroy();
    }
  },
);

/** The first bytes of a stream, so many at least. */
function firstWords(stream: ByteStream, length: number): Promise<string> {
  let heard = "";
  return new Promise((resolve, reject) => {
    stream.listen({
      data(chunks) {
        heard += Buffer.concat(chunks).toString();
        if (heard.length >= length) resolve(heard);
      },
      written: () => undefined,
      closed: (reason) => reject(new Error(reason)),
    });
  });
}

test(
  "connections that are reset in the middle of TLS or of a request harm nobody: a device gets in",
  LIMIT,
  async () => {
    for (const said of ["", REQUEST, UPGRADE, "POST /revoke HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nx"]) {
      const early = await openPlain(served.patient);
      early.write(Uint8Array.of(22, 3, 1), () => early.resetAndDestroy());
      const plain = await openPlain(served.patient);
      const socket = connectSecure({ socket: plain, rejectUnauthorized: false });
      socket.on("error", () => undefined);
      await once(socket, "secureConnect");
      await new Promise<void>((resolve) => socket.write(said, () => resolve()));
      plain.resetAndDestroy();
    }
    (await dial(served.patient)).terminate();
  },
);
