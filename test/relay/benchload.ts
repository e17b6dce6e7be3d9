import { readdirSync, readFileSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { connect as connectSecure, createServer as createSecureServer, type TLSSocket } from "node:tls";
import { fromHex, utf8 } from "../../src/kit/bytes.js";
import { hash, keyPairOf } from "../../src/kit/crypto.js";
import { type Key, keyBytes, keyOf, parseKey } from "../../src/kit/key.js";
import { FrameReader, type FrameSink } from "../../src/relay/framereader.js";
import { TurnMemory } from "../../src/relay/turnmemory.js";
import type { ByteStream } from "../../src/sys/bytestream.js";
import { systemRandom } from "../../src/sys/random.js";
import { dialStream } from "../../src/sys/streamdial.js";
import { issueAdmission } from "../../src/wire/admission.js";
import { initiate, type Transport } from "../../src/wire/noise.js";
import {
  BINDING_HEADER,
  encodeFrame,
  FRAME,
  HEADER_BYTES,
  prologueOf,
  RELAY_PATH,
  RELAY_PROTOCOL,
} from "../../src/wire/relay.js";

/**
 * The load of scripts/bench-relay.mjs, one process on a core of its own: benchload.js '{"do": …}' prints one JSON line.
 * The same blocks of frames go through the relay, and through haproxy: TLS in, and TLS or nothing out.
 */
type Want = {
  readonly do: "relay" | "haproxy" | "haproxy-tls" | "idle" | "latency" | "latency-direct";
  readonly port: number;
  readonly sinkPort: number;
  readonly serverPid: number;
  readonly relayKey: string;
  readonly signer: string;
  readonly certificate: string;
  readonly key: string;
  readonly pairs: number;
  readonly megabytes: number;
  readonly ciphers?: string;
};

/** A full-size WireGuard datagram of a tunnel with an MTU of 1280: 16 header, 1280, 16 tag. */
const DATAGRAM_BYTES = 1_312;
const BLOCK_FRAMES = 48;
/** On their way, of all pairs. */
const WINDOW_BYTES = 1_048_576;
const WINDOW_BYTES_MIN = 131_072;
/** Before the measured bytes, so many of them: the server's code is hot then. */
const WARMUP_SHARE = 0.7;
const LOOK_MS = 5;
const TICKS_PER_SECOND = 100;

const want = JSON.parse(process.argv[2] ?? "{}") as Want;

/** Seconds of processor time that the server has used. */
function cpuSeconds(): number {
  const fields = readFileSync(`/proc/${want.serverPid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

function residentMiB(): number {
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${want.serverPid}/status`, "utf8"))?.[1]) / 1_024;
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** One logged-in connection; `heard` is told of every byte after the login. */
type Line = {
  readonly publicKey: Key;
  send(bytes: Uint8Array): void;
  writable(): boolean;
  heard: (bytes: number) => void;
};

async function login(name: string): Promise<Line> {
  const machine = keyPairOf(hash(utf8(`${name} machine`)));
  const publicKey = keyOf(hash(utf8(`${name} public`)));
  const stream: ByteStream = await dialStream(`https://127.0.0.1:${want.port}${RELAY_PATH}`, {
    protocol: RELAY_PROTOCOL,
    bindingHeader: BINDING_HEADER,
    timeoutMs: 20_000,
    signal: new AbortController().signal,
  });
  const initiation = initiate({
    local: machine,
    remotePublic: keyBytes(parseKey(want.relayKey)),
    prologue: prologueOf(stream.binding),
    ephemeral: keyPairOf(systemRandom(32)),
  });
  const admission = issueAdmission(fromHex(want.signer) ?? new Uint8Array(), {
    machineKey: keyOf(machine.publicKey),
    publicKey,
    rateClass: 3,
    now: Date.now(),
  });
  let transport: Transport | undefined;
  let waiting: Uint8Array[] = [];
  let writing = false;
  const flush = (): void => {
    if (writing || waiting.length === 0) return;
    writing = true;
    const parts = waiting;
    waiting = [];
    stream.write(parts);
  };
  return new Promise((resolve, reject) => {
    let welcomed = false;
    const line: Line = {
      publicKey,
      send(bytes) {
        waiting.push(bytes);
        flush();
      },
      writable: () => waiting.length === 0,
      heard: () => undefined,
    };
    const sink: FrameSink = {
      frame(type, buffer, at, end) {
        const body = buffer.subarray(at + HEADER_BYTES, end);
        if (type === FRAME.reply) {
          transport = initiation.finish(body);
          if (transport === undefined) reject(new Error("not the relay"));
          else line.send(encodeFrame(FRAME.login, transport.seal(admission)));
        } else if (type === FRAME.welcome) {
          welcomed = true;
          resolve(line);
        } else if (type === FRAME.ping) line.send(encodeFrame(FRAME.pong, body));
        else if (type === FRAME.refused) reject(new Error(`refused: ${body[0]}`));
      },
      flush: () => undefined,
      malformed: () => reject(new Error("malformed")),
      oversized: () => reject(new Error("oversized")),
    };
    const reader = new FrameReader(sink, new TurnMemory());
    stream.listen({
      data(chunks) {
        if (!welcomed || want.do === "idle") reader.push(chunks);
        else line.heard(chunks.reduce((sum, chunk) => sum + chunk.length, 0));
      },
      written() {
        writing = false;
        flush();
      },
      closed: (reason) => reject(new Error(reason)),
    });
    line.send(encodeFrame(FRAME.initiation, initiation.message));
  });
}

function frameTo(to: Key, bytes = DATAGRAM_BYTES): Uint8Array {
  const datagram = new Uint8Array(bytes).fill(4);
  return encodeFrame(FRAME.datagram, keyBytes(to), datagram);
}

type Pair = { start(): void };

/** Keeps `window` bytes of a pair on their way. */
function pump(
  to: Key,
  window: number,
  send: (block: Uint8Array) => void,
  ready: () => boolean,
): { heard(bytes: number): void; go(): void } {
  const block = Buffer.concat(Array.from({ length: BLOCK_FRAMES }, () => frameTo(to)));
  let flying = 0;
  const go = (): void => {
    while (flying + block.length <= window && ready()) {
      flying += block.length;
      send(block);
    }
  };
  return {
    go,
    heard(bytes) {
      flying -= bytes;
      received += bytes;
      go();
    },
  };
}

let received = 0;
const windowOf = (pairs: number): number => Math.max(WINDOW_BYTES_MIN, Math.floor(WINDOW_BYTES / pairs));

async function relayPair(i: number): Promise<Pair> {
  const [from, to] = [await login(`from ${i}`), await login(`to ${i}`)];
  const { go, heard } = pump(
    to.publicKey,
    windowOf(want.pairs),
    (block) => from.send(block),
    () => true,
  );
  to.heard = heard;
  return { start: go };
}

async function haproxyPairs(secure: boolean): Promise<Pair[]> {
  const pairs: Pair[] = [];
  const sinks: Socket[] = [];
  const arrived: ((socket: Socket) => void)[] = [];
  const sink = (socket: Socket): void => {
    socket.on("error", () => undefined);
    sinks.push(socket);
    arrived.shift()?.(socket);
  };
  const server = secure ? createSecureServer({ key: want.key, cert: want.certificate }, sink) : createServer(sink);
  await new Promise<void>((resolve) => server.listen(want.sinkPort, "127.0.0.1", resolve));
  for (let i = 0; i < want.pairs; i++) {
    const socket = new Promise<Socket>((resolve) => arrived.push(resolve));
    const from = await new Promise<TLSSocket>((resolve, reject) => {
      const made = connectSecure({ port: want.port, host: "127.0.0.1", rejectUnauthorized: false }, () =>
        resolve(made),
      );
      made.on("error", reject);
    });
    from.write("x"); // haproxy dials when the first byte has come
    const to = await socket;
    let writing = 0;
    const sending = pump(
      keyOf(hash(utf8("to"))),
      windowOf(want.pairs),
      (block) => {
        writing++;
        from.write(block, () => writing--);
      },
      () => true,
    );
    let first = true;
    to.on("data", (chunk: Buffer) => {
      sending.heard(first ? chunk.length - 1 : chunk.length);
      first = false;
    });
    pairs.push({ start: sending.go });
  }
  return pairs;
}

async function carried(bytes: number): Promise<void> {
  while (received < bytes) await pause(LOOK_MS);
}

async function throughput(): Promise<unknown> {
  const pairs: Pair[] = [];
  if (want.do === "relay") for (let i = 0; i < want.pairs; i++) pairs.push(await relayPair(i));
  else pairs.push(...(await haproxyPairs(want.do === "haproxy-tls")));
  for (const { start } of pairs) start();
  await carried(want.megabytes * 1e6 * WARMUP_SHARE);
  const [cpu, bytes, at] = [cpuSeconds(), received, performance.now()];
  await carried(bytes + want.megabytes * 1e6);
  const gigabytes = (received - bytes) / 1e9;
  const seconds = (performance.now() - at) / 1_000;
  const spent = cpuSeconds() - cpu;
  return { gigabytesPerSecond: gigabytes / seconds, cpuSecondsPerGB: spent / gigabytes, cpuShare: spent / seconds };
}

const IDLE_CLIENTS = 1_000;
const IDLE_AT_ONCE = 20;
/** Until the relay has noticed that it is quiet, and collected. */
const IDLE_SETTLE_MS = 25_000;

async function idle(): Promise<unknown> {
  const before = residentMiB();
  for (let i = 0; i < IDLE_CLIENTS; i += IDLE_AT_ONCE)
    await Promise.all(Array.from({ length: IDLE_AT_ONCE }, (_, k) => login(`idle ${i + k}`)));
  await pause(IDLE_SETTLE_MS);
  // A client that was cut meanwhile would make the figure better than it is.
  const open = readdirSync(`/proc/${want.serverPid}/fd`).length;
  if (open < IDLE_CLIENTS) throw new Error(`of ${IDLE_CLIENTS} idle clients only ${open} are still there`);
  return { emptyMiB: before, idleMiB: residentMiB(), clients: IDLE_CLIENTS };
}

const LATENCY_ROUNDS = 2_000;
const LATENCY_GAP_MS = 1;

/** Half the round trip of one small datagram, in milliseconds, median; a pause between, so that nothing is hot. */
async function latency(send: (n: number) => void, arrived: (done: () => void) => void): Promise<number> {
  const samples: number[] = [];
  let resume: () => void = () => undefined;
  arrived(() => resume());
  for (let i = 0; i < LATENCY_ROUNDS; i++) {
    const at = performance.now();
    await new Promise<void>((resolve) => {
      resume = resolve;
      send(i);
    });
    samples.push((performance.now() - at) / 2);
    await pause(LATENCY_GAP_MS);
  }
  samples.sort((left, right) => left - right);
  return samples[Math.floor(samples.length / 2)] ?? 0;
}

const SMALL_BYTES = 148;

async function latencyThroughRelay(): Promise<unknown> {
  const [left, right] = [await login("left"), await login("right")];
  const [there, back] = [frameTo(right.publicKey, SMALL_BYTES), frameTo(left.publicKey, SMALL_BYTES)];
  right.heard = () => right.send(back);
  return {
    medianMs: await latency(
      () => left.send(there),
      (done) => {
        left.heard = done;
      },
    ),
  };
}

async function latencyDirect(): Promise<unknown> {
  const frame = frameTo(keyOf(hash(utf8("to"))), SMALL_BYTES);
  const server = createSecureServer({ key: want.key, cert: want.certificate }, (socket) => {
    socket.setNoDelay(true);
    socket.on("data", () => socket.write(frame));
  });
  await new Promise<void>((resolve) => server.listen(want.sinkPort, "127.0.0.1", resolve));
  const left = await new Promise<TLSSocket>((resolve) => {
    const made = connectSecure({ port: want.sinkPort, host: "127.0.0.1", rejectUnauthorized: false }, () =>
      resolve(made),
    );
  });
  left.setNoDelay(true);
  return {
    medianMs: await latency(
      () => left.write(frame),
      (done) => left.on("data", done),
    ),
  };
}

const work = { idle, latency: latencyThroughRelay, "latency-direct": latencyDirect };
const run = want.do in work ? work[want.do as keyof typeof work] : throughput;
process.stdout.write(`${JSON.stringify(await run())}\n`, () => process.exit(0));
