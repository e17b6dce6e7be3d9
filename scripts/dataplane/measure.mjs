// What is measured through one tunnel: iperf3's rates, the node's CPU time and memory, round trips.
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { ended, run, says, start } from "./bed.mjs";

const PORT = 5201;
/** What iperf3 may take beyond the time it sends for. */
const GRACE_MS = 12_000;
const SAMPLE_MS = 100;
const PINGS = 60;
const PING_INTERVAL_SECONDS = 0.02;
/** IPv4 and UDP headers. */
const UDP_HEADERS_BYTES = 28;

const TICKS_PER_SECOND = Number(execFileSync("getconf", ["CLK_TCK"], { encoding: "utf8" }));

/** User and system time of the process with all its threads. */
export function cpuSeconds(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8")
    .replace(/^.*\) /, "")
    .split(" ");
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

export function residentMiB(pid) {
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0) / 1024;
}

async function iperf(core, address, seconds, extra) {
  // Bound to the address: an answer over UDP comes from there.
  const server = start("server", core, ["iperf3", "-s", "-1", "-B", address, "-p", String(PORT), "--forceflush"], {
    stdio: ["ignore", "pipe", "ignore"],
  });
  try {
    await says(server, "Server listening");
    const argv = [
      "iperf3",
      "-c",
      address,
      "-p",
      String(PORT),
      "-t",
      String(seconds),
      "-J",
      "--connect-timeout",
      "5000",
    ];
    const client = start("client", core, [...argv, ...extra], { stdio: ["ignore", "pipe", "ignore"] });
    const chunks = [];
    client.stdout.on("data", (chunk) => chunks.push(chunk));
    await ended(client, seconds * 1_000 + GRACE_MS);
    const text = Buffer.concat(chunks).toString();
    const result = text === "" ? { error: "it printed nothing in time" } : JSON.parse(text);
    if (result.error !== undefined) throw new Error(`iperf3 to ${address} ${extra.join(" ")}: ${result.error}`);
    return result.end;
  } finally {
    server.kill();
    await ended(server);
  }
}

/** Runs the work and tells what the node spent on it, and the largest resident size seen meanwhile. */
async function watched(pid, work) {
  const before = cpuSeconds(pid);
  let rssMiB = residentMiB(pid);
  const timer = setInterval(() => {
    rssMiB = Math.max(rssMiB, residentMiB(pid));
  }, SAMPLE_MS);
  try {
    const result = await work();
    const spent = cpuSeconds(pid) - before;
    return { ...result, rssMiB, cpuSeconds: spent, cpuShare: spent / result.seconds };
  } finally {
    clearInterval(timer);
  }
}

/** One TCP stream; what the receiver got. `down` is from the server to the client. */
export function tcp(core, tunnel, direction, seconds) {
  return watched(tunnel.pid, async () => {
    const { sum_received: got } = await iperf(core, tunnel.address, seconds, direction === "down" ? ["-R"] : []);
    return { mbit: got.bits_per_second / 1e6, bytes: got.bytes, seconds: got.seconds };
  });
}

/** IP packets of `packetBytes` (they fit the tunnel whole) at a fixed rate; goodput is payload that arrived, per second. */
export function udp(core, tunnel, direction, seconds, packetBytes, offeredMbit) {
  const payload = packetBytes - UDP_HEADERS_BYTES;
  return watched(tunnel.pid, async () => {
    const extra = ["-u", "-l", String(payload), "-b", `${offeredMbit}M`, ...(direction === "down" ? ["-R"] : [])];
    const { sum, sum_sent: sent, sum_received: got } = await iperf(core, tunnel.address, seconds, extra);
    const bytes = (got.packets - (got.lost_packets ?? sum.lost_packets)) * payload;
    const mbitOf = (count) => (count * 8) / got.seconds / 1e6;
    return { mbit: mbitOf(bytes), offeredMbit: mbitOf(sent.bytes), bytes, seconds: got.seconds };
  });
}

/** Milliseconds of each round trip, one after the other, with nothing else in the tunnel. */
export function pings(address) {
  const text = run("client", `ping -n -c ${PINGS} -i ${PING_INTERVAL_SECONDS} -W 1 ${address}`);
  return [...text.matchAll(/time=([\d.]+) ms/g)].map(([, time]) => Number(time));
}
