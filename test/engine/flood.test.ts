import assert from "node:assert/strict";
import { type ChildProcess, type ChildProcessByStdio, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { constants, setPriority, tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface, type Interface } from "node:readline";
import type { Readable, Writable } from "node:stream";
import { after, before, test } from "node:test";
import { setTimeout } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseEndpoint } from "../../src/kit/endpoint.js";
import { parseCidr } from "../../src/kit/ip.js";
import { localExec, mustRun } from "../../src/sys/exec.js";
import { systemRandom } from "../../src/sys/random.js";
import { Device } from "../../src/wireguard/device.js";
import { echoRequest } from "../wireguard/icmp.js";
import { packDatagrams } from "./floodsender.js";
import { until } from "./patience.js";
import { must, type Place, placeOf, removePlaces, stop } from "./places.js";
import { OURS, PORT, Tunnel, WIRE4 } from "./tunnel.js";
import { identityOf, NEWER } from "./wireguardgo.js";

/** Strangers at the engine's port, as fast as 20,000 datagrams a second, while a peer's transfer is under way. */
const RATE = 20_000;
const PREFIX = "exn-bd-f";
const STRANGERS = `${PREFIX}3`;
const TARGET = "10.99.8.1";
const ADDRESSES = 64;
const sources = Array.from({ length: ADDRESSES }, (_, i) => `10.99.8.${10 + i}`);

const WINDOW_MS = 400;
/** The flood runs this long before and after what is measured of it, and is over for this long before it is missed. */
const MARGIN_MS = 200;
const ROUNDS = 7;
/** Rounds in which the sender itself was held up say nothing; so many are tried in all. */
const ROUNDS_MAX = 10;
const RECORDED = 400;
const AUTOGROUP = "/proc/self/autogroup";

let tunnel: Tunnel;
let strangers: Place;
let folder: string;
/** The transfer's client and server. */
let stream: ChildProcess[] = [];
let recorded: Uint8Array[] = [];

before(async () => {
  // What else runs on this machine is no part of the claim. Everything that takes part inherits it.
  setPriority(constants.priority.PRIORITY_HIGHEST);
  await preferSession(constants.priority.PRIORITY_HIGHEST);
  folder = await mkdtemp(join(tmpdir(), "exn-flood-"));
  tunnel = await Tunnel.open(PREFIX, NEWER);
  removePlaces(STRANGERS);
  await mustRun(localExec, ["ip", "netns", "add", STRANGERS]);
  strangers = placeOf(STRANGERS);
  await must(tunnel.here, `ip link add strangers type veth peer name wire netns ${STRANGERS}`);
  await must(tunnel.here, `ip address add ${TARGET}/24 dev strangers`);
  await must(tunnel.here, "ip link set strangers up");
  for (const source of sources) await must(strangers, `ip address add ${source}/24 dev wire`);
  await must(strangers, "ip link set wire up");
  await tunnel.connect({ ourEndpoint: `${WIRE4.ours}:${PORT}` });
  recorded = await record();
  await startStream();
});

after(async () => {
  for (const child of stream) await stop(child);
  await tunnel?.close();
  removePlaces(STRANGERS);
  await preferSession(0);
  await rm(folder, { recursive: true, force: true });
});

/**
 * Where the kernel shares the processors out by sessions first (sched(7)), priorities count within one only. What init
 * started without a session of its own is in the root group, whose share cannot be set (EINVAL) and which needs none:
 * priorities count there as they are.
 */
async function preferSession(niceness: number): Promise<void> {
  if (!existsSync(AUTOGROUP)) return;
  await writeFile(AUTOGROUP, String(niceness)).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "EINVAL") throw error;
  });
}

/** The peer's genuine datagrams as they crossed the wire: pings, one at a time, so that the kernel joins none. */
async function record(): Promise<Uint8Array[]> {
  const file = join(folder, "genuine.pcap");
  const filter = ["src", WIRE4.theirs, "and", "udp", "and", "udp[8]", "=", "4"];
  const words = ["tcpdump", "-q", "-U", "-i", "wire", "-c", String(RECORDED), "-w", file, ...filter];
  const child = spawn("ip", ["netns", "exec", tunnel.here.name, ...words], { stdio: ["ignore", "ignore", "pipe"] });
  const listening = createInterface({ input: child.stderr });
  const ended = once(child, "exit");
  await new Promise<void>((resolve) => listening.on("line", (line) => line.includes("listening on") && resolve()));
  // For as long as it takes: tcpdump may miss some.
  const pings = ["ping", "-n", "-q", "-i", "0.003", "-s", "1300", OURS.ip4];
  const speaking = spawn("ip", ["netns", "exec", tunnel.there.name, ...pings], { stdio: "ignore" });
  await ended;
  await stop(speaking);
  return payloads(await readFile(file));
}

/** pcap: a header of 24 bytes, then records of 16 bytes with the captured length at 8; Ethernet, IPv4 and UDP are 42. */
function payloads(capture: Buffer): Uint8Array[] {
  const found: Uint8Array[] = [];
  for (let at = 24; at < capture.length; ) {
    const end = at + 16 + capture.readUInt32LE(at + 8);
    found.push(capture.subarray(at + 16 + 42, end));
    at = end;
  }
  return found;
}

/** One TCP connection from wireguard-go's side to ours, which goes on for as long as the tests. */
async function startStream(): Promise<void> {
  const server = spawn("ip", ["netns", "exec", tunnel.here.name, "iperf3", "-s", "-1", "--forceflush"], {
    stdio: ["ignore", "pipe", "ignore"],
  });
  const lines = createInterface({ input: server.stdout });
  await new Promise<void>((resolve) => lines.on("line", (line) => line.includes("Server listening") && resolve()));
  const client = spawn("ip", ["netns", "exec", tunnel.there.name, "iperf3", "-c", OURS.ip4, "-t", "120"], {
    stdio: "ignore",
  });
  stream = [client, server];
  const before = delivered();
  await until("the transfer is under way", () => delivered() > before + 50e6);
}

/** What a device of ours has received, as the kernel counts it: read in no time, in a place that a program is in. */
function counted(device: string): { bytes: number; packets: number } {
  const [, server] = stream;
  const line = readFileSync(`/proc/${server?.pid}/net/dev`, "utf8")
    .split("\n")
    .find((one) => one.trim().startsWith(`${device}:`));
  const [bytes, packets] = (line?.split(":")[1] ?? "").trim().split(/\s+/).map(Number);
  assert.ok(bytes !== undefined && packets !== undefined, device);
  return { bytes, packets };
}

/** Bytes that came out of the tunnel. */
const delivered = (): number => counted(tunnel.device).bytes;

/** Bytes a millisecond over one window. */
async function rate(): Promise<number> {
  const [before, from] = [delivered(), performance.now()];
  await setTimeout(WINDOW_MS);
  return (delivered() - before) / (performance.now() - from);
}

class Flood {
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  readonly #lines: AsyncIterator<string>;
  readonly #reader: Interface;

  private constructor(file: string) {
    const program = fileURLToPath(new URL("./floodsender.js", import.meta.url));
    const argv = [process.execPath, program, file, `${TARGET}:${PORT}`, String(RATE), ...sources];
    this.#child = spawn("ip", ["netns", "exec", STRANGERS, ...argv], { stdio: ["pipe", "pipe", "inherit"] });
    this.#reader = createInterface({ input: this.#child.stdout });
    this.#lines = this.#reader[Symbol.asyncIterator]();
  }

  static async of(datagrams: readonly Uint8Array[]): Promise<Flood> {
    const file = join(folder, "flood");
    await writeFile(file, packDatagrams(datagrams));
    const flood = new Flood(file);
    await flood.#lines.next();
    return flood;
  }

  /** How many datagrams left in that time. */
  async runs(milliseconds: number): Promise<number> {
    this.#child.stdin.write(`${milliseconds}\n`);
    return Number((await this.#lines.next()).value);
  }

  async stop(): Promise<void> {
    this.#reader.close();
    await stop(this.#child);
  }
}

/**
 * The transfer's rate with the flood over its rate just before and just after, and of that the median of some rounds:
 * whatever else the machine does, it does to both, and where it does not, to the fewer rounds.
 */
async function share(datagrams: readonly Uint8Array[]): Promise<{ share: number; report: string }> {
  const flood = await Flood.of(datagrams);
  const rounds: { readonly share: number; readonly words: string }[] = [];
  const mbit = (bytesPerMs: number): number => Math.round(bytesPerMs * 0.008);
  try {
    let before = await rate();
    for (let i = 0; i < ROUNDS_MAX && rounds.length < ROUNDS; i++) {
      const arrived = counted("strangers").packets;
      const length = WINDOW_MS + 2 * MARGIN_MS;
      const under = flood.runs(length);
      await setTimeout(MARGIN_MS);
      const kept = await rate();
      const sent = await under;
      const came = counted("strangers").packets - arrived;
      assert.ok(came >= sent, `${came} of ${sent} datagrams came to the machine`);
      await setTimeout(MARGIN_MS);
      const after = await rate();
      const without = (before + after) / 2;
      before = after;
      if (sent < (RATE * length * 0.9) / 1_000) continue;
      rounds.push({ share: kept / without, words: `${mbit(kept)} of ${mbit(without)}` });
    }
  } finally {
    await flood.stop();
  }
  rounds.sort((one, other) => one.share - other.share);
  const median = rounds[rounds.length >> 1];
  assert.ok(median !== undefined, `the sender never reached ${RATE} datagrams a second`);
  const list = rounds.map(({ words }) => words).join(", ");
  return { share: median.share, report: `${median.share.toFixed(2)}: ${list} Mbit/s` };
}

async function keepsHalf(context: { diagnostic(text: string): void }, datagrams: readonly Uint8Array[]): Promise<void> {
  const { share: kept, report } = await share(datagrams);
  context.diagnostic(report);
  assert.ok(kept >= 0.5, report);
  assert.deepEqual(
    (await tunnel.peer()).endpoint,
    parseEndpoint(`${WIRE4.theirs}:${PORT}`),
    "the peer is where it was",
  );
}

test("a transfer keeps half its rate while garbage comes 20,000 times a second", async (context) => {
  // Of every length, and of every kind by its first bytes: nothing, an initiation, a response, a cookie, a transport.
  const garbage = Array.from({ length: 500 }, (_, i) => {
    const bytes = systemRandom(i % 5 === 1 ? 148 : i % 5 === 2 ? 92 : i % 5 === 3 ? 64 : 16 + ((i * 97) % 1_400));
    if (i % 5 !== 0) bytes.set([i % 5, 0, 0, 0]);
    return bytes;
  });
  await keepsHalf(context, garbage);
});

test("a transfer keeps half its rate while a peer's own datagrams are replayed 20,000 times a second", async (context) => {
  assert.equal(recorded.length, RECORDED);
  await keepsHalf(context, recorded);
});

test("a transfer keeps half its rate while strangers begin 20,000 handshakes a second with a valid mac1", async (context) => {
  const endpoint = parseEndpoint(`${TARGET}:${PORT}`);
  const initiations = Array.from({ length: 256 }, (_, i) => {
    const stranger = new Device({ random: systemRandom, wallMs: () => Date.now() });
    const peer = { publicKey: tunnel.us.publicKey, endpoint, allowedIps: [parseCidr("0.0.0.0/0")] };
    const { privateKey } = identityOf(`stranger ${i}`);
    stranger.configure({ privateKey, peers: [{ ...peer, persistentKeepaliveSeconds: 0 }] }, 0);
    const [effect] = stranger.send(echoRequest("10.0.0.1", "10.0.0.2", 1), 0);
    assert.ok(effect?.kind === "send");
    return effect.datagram;
  });
  await keepsHalf(context, initiations);
});
