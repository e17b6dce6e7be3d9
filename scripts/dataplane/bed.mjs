// The bench: three namespaces in a row, programs in them, and their end.
//
//   client 10.99.1.1 ──veth── 10.99.1.2 node 10.99.2.1 ──veth── 10.99.2.2 server
//
// The node forwards. Each tunnel between client and node carries the traffic to one address of the server, so that
// several are up at the same time and what is measured is chosen by destination.
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { removeShares } from "./share.mjs";

const PREFIX = "exn-bd-";
const LOCK = "/run/exitnode-bench-dataplane.pid";
const RUN_TIMEOUT_MS = 10_000;
const START_TIMEOUT_MS = 15_000;
const END_TIMEOUT_MS = 5_000;

export const NODE_ADDRESS = "10.99.1.2";
export const groupName = (name) => `${PREFIX}${name}`;
const space = (place) => `${PREFIX}${place}`;

/** One core for the node, another for everything else; on a machine of one core they share it. */
export function chooseCores() {
  const list = /^Cpus_allowed_list:\s+(\S+)/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1] ?? "0";
  const cores = list.split(",").flatMap((range) => {
    const [first, last = first] = range.split("-").map(Number);
    return Array.from({ length: last - first + 1 }, (_, i) => first + i);
  });
  return { node: cores[0], rest: cores[1] ?? cores[0] };
}

/** Makes sure that no other run is under way, and removes what a killed one has left. */
export function takeBench() {
  if (existsSync(LOCK)) {
    const pid = readFileSync(LOCK, "utf8").trim();
    const command = existsSync(`/proc/${pid}/cmdline`) ? readFileSync(`/proc/${pid}/cmdline`, "utf8") : "";
    if (command.includes("bench-dataplane")) throw new Error(`another run is under way: process ${pid}`);
  }
  writeFileSync(LOCK, `${process.pid}\n`);
  removeBench();
}

/** Ends every process in the namespaces, removes them and the control groups. Synchronous: it also follows a signal. */
export function removeBench() {
  const ip = (...words) => spawnSync("ip", words, { encoding: "utf8", timeout: 10_000 });
  const pids = ["client", "node", "server"].flatMap((place) =>
    (ip("netns", "pids", space(place)).stdout ?? "").split("\n").filter((line) => line !== ""),
  );
  for (const pid of pids) {
    try {
      process.kill(Number(pid), "SIGKILL");
    } catch {
      // It ended meanwhile.
    }
  }
  for (const place of ["client", "node", "server"]) ip("netns", "delete", space(place));
  removeShares(PREFIX);
}

/** Runs space-separated words in a place, to their end. */
export const run = (place, line) => runWith(place, line.split(" "));

export function runWith(place, argv, input = "") {
  const words = ["netns", "exec", space(place), ...argv];
  return execFileSync("ip", words, { encoding: "utf8", input, stdio: "pipe", timeout: RUN_TIMEOUT_MS });
}

/**
 * The server has one address that is reached without a tunnel, and one for each tunnel. Offloads stay as veth has them:
 * checksums and segmentation are left to the other end.
 */
export function makeBench(directAddress, tunnelAddresses) {
  for (const place of ["client", "node", "server"]) {
    execFileSync("ip", ["netns", "add", space(place)]);
    run(place, "ip link set lo up");
  }
  const wire = (place, device, address, other, otherDevice, otherAddress) => {
    run(place, `ip link add ${device} type veth peer name ${otherDevice} netns ${space(other)}`);
    for (const [where, name, cidr] of [
      [place, device, address],
      [other, otherDevice, otherAddress],
    ]) {
      run(where, `ip address add ${cidr} dev ${name}`);
      run(where, `ip link set ${name} up`);
    }
  };
  wire("node", "up0", `${NODE_ADDRESS}/24`, "client", "wire", "10.99.1.1/24");
  wire("node", "down0", "10.99.2.1/24", "server", "wire", "10.99.2.2/24");
  run("node", "sysctl -qw net.ipv4.ip_forward=1");
  run("server", "ip route add default via 10.99.2.1");
  for (const address of [directAddress, ...tunnelAddresses]) {
    run("server", `ip address add ${address}/32 dev lo`);
    run("node", `ip route add ${address}/32 via 10.99.2.2`);
  }
  run("client", `ip route add ${directAddress}/32 via ${NODE_ADDRESS}`);
}

/** A program in a place, on a core, in a control group if one is given. */
export function start(
  place,
  core,
  argv,
  { procs = "/dev/null", env = {}, stdio = ["ignore", "ignore", "inherit"] } = {},
) {
  const enter = 'echo $$ > "$0" && exec ip netns exec "$@"';
  // Before the machine's other work, or the client and the server would be what is measured.
  const first = ["-n", "-10", "taskset", "-c", String(core)];
  return spawn("nice", [...first, "sh", "-c", enter, procs, space(place), ...argv], {
    env: { ...process.env, ...env },
    stdio,
  });
}

/** Until the program says the word on its standard output. */
export async function says(child, word) {
  const lines = createInterface({ input: child.stdout });
  let timer;
  try {
    await new Promise((resolve, reject) => {
      timer = setTimeout(() => reject(new Error(`${child.spawnargs.at(-1)}: no "${word}" in time`)), START_TIMEOUT_MS);
      lines.on("line", (line) => line.includes(word) && resolve());
      child.once("exit", (code) => reject(new Error(`${child.spawnargs.join(" ")} exited ${code}`)));
    });
  } finally {
    clearTimeout(timer);
  }
}

export async function ended(child, timeoutMs = END_TIMEOUT_MS) {
  if (child.exitCode !== null || child.signalCode !== null) return;
  await new Promise((resolve) => {
    const timer = setTimeout(() => child.kill("SIGKILL"), timeoutMs);
    child.once("exit", () => {
      clearTimeout(timer);
      resolve();
    });
  });
}
