import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { formatEndpoint, parseEndpoint } from "../../src/kit/endpoint.js";
import { ipBytes, parseIp } from "../../src/kit/ip.js";
import { Arena } from "../../src/sys/arena.js";
import { DatagramWriter, WRITER_ARENA_BYTES } from "../../src/sys/datagrams.js";
import { loadLibc } from "../../src/sys/libc.js";
import { Remote } from "../../src/sys/sockaddr.js";
import { openUdpPair } from "../../src/sys/udp.js";

/**
 * A flood as a program of its own, so that it does not wait for the test nor the test for it. Each line of standard
 * input is a number of milliseconds to send for, answered by how many datagrams left.
 * arguments: FILE of length-prefixed datagrams, TARGET, RATE a second, SOURCE addresses to send from in turn
 */
const TURN_MS = 2;
/** What is made up for after this process was not scheduled. */
const BURST_SECONDS_MAX = 0.05;

export function packDatagrams(datagrams: readonly Uint8Array[]): Uint8Array {
  return Buffer.concat(datagrams.flatMap((one) => [Uint8Array.of(one.length >> 8, one.length & 255), one]));
}

function unpackDatagrams(bytes: Uint8Array): Uint8Array[] {
  const found: Uint8Array[] = [];
  for (let at = 0; at < bytes.length; ) {
    const end = at + 2 + (bytes[at] ?? 0) * 256 + (bytes[at + 1] ?? 0);
    found.push(bytes.subarray(at + 2, end));
    at = end;
  }
  return found;
}

async function flood(): Promise<void> {
  const [file = "", target = "", rate = "", ...sources] = process.argv.slice(2);
  const datagrams = unpackDatagrams(readFileSync(file));
  const to = parseEndpoint(target);
  const remotes = sources.map((one) => new Remote(4, ipBytes(to.address), to.port, ipBytes(parseIp(one))));
  const libc = loadLibc();
  const writer = new DatagramWriter(libc, new Arena(libc, WRITER_ARENA_BYTES), () => {});
  writer.fd = openUdpPair(libc, 0, { mark: 0, join: false, onWarning: () => {} }).ip4?.fd;
  let next = 0;
  const sendOne = (): void => {
    const remote = remotes[next % remotes.length];
    const datagram = datagrams[next % datagrams.length];
    next++;
    if (remote !== undefined && datagram !== undefined) writer.add(remote, datagram);
  };
  const sendFor = (milliseconds: number): Promise<number> =>
    new Promise((resolve) => {
      const refused = writer.refused;
      const from = performance.now();
      let last = from;
      let owed = 0;
      let sent = 0;
      const timer = setInterval(() => {
        const now = performance.now();
        owed = Math.min(owed + ((now - last) / 1_000) * Number(rate), BURST_SECONDS_MAX * Number(rate));
        last = now;
        for (; owed >= 1; owed--, sent++) sendOne();
        writer.flush();
        if (now - from < milliseconds) return;
        clearInterval(timer);
        resolve(sent - (writer.refused - refused));
      }, TURN_MS);
    });
  process.stdout.write(`ready for ${formatEndpoint(to)}\n`);
  for await (const line of createInterface({ input: process.stdin }))
    process.stdout.write(`${await sendFor(Number(line))}\n`);
  process.exit(0);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await flood();
