// Coordinators and their load as processes of their own, for scripts/bench coordinator and coordinators.
import { execFileSync, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
export const built = join(root, process.env.EXN_BUILD ?? "build");
export const say = (line) => process.stderr.write(`${line}\n`);
export const round = (number, digits = 1) => Number(number.toFixed(digits));
export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const MACHINE_MIB = 2_048;
const { coordinatorMemory } = await import(join(built, "src/netconf/coordinatormemory.js"));
const [COORDINATOR_CORE, LOAD_CORE] = ["0", "1"];
const children = new Set();
const folders = [];
process.on("exit", () => {
  for (const child of children) child.kill("SIGKILL");
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});
process.on("SIGINT", () => process.exit(130));

function start(core, args, stdio, env = {}) {
  const child = spawn("taskset", ["-c", core, process.execPath, ...args], { env: { ...process.env, ...env }, stdio });
  children.add(child);
  child.on("exit", () => children.delete(child));
  return child;
}

/** A folder with a coordinator's configuration; `store` is a line of it. */
export function makeFolder(port, urls, store = "") {
  const folder = mkdtempSync(join(tmpdir(), "exn-bench-"));
  folders.push(folder);
  mkdirSync(folder, { recursive: true });
  writeFileSync(
    join(folder, "coordinator.yaml"),
    `listen: {address: 127.0.0.1, port: ${port}}
urls: ${JSON.stringify(urls)}
adminTokenSha256: "${"0".repeat(64)}"
relay: {enabled: false}
${store}
`,
  );
  return folder;
}

/** One request to the admin socket in the folder. */
export function call(folder, method, path, body) {
  const said = execFileSync(
    "curl",
    [
      ...["-s", "-X", method, "--unix-socket", join(folder, "admin.sock"), `http://x/api/v1${path}`],
      ...(body === undefined ? [] : ["-H", "content-type: application/json", "-d", JSON.stringify(body)]),
    ],
    { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] },
  );
  return JSON.parse(said);
}

/** As its unit starts it on a machine with so much memory. */
export async function startCoordinator(folder, { profile, machine = MACHINE_MIB } = {}) {
  const { heapMiB, youngMiB } = coordinatorMemory(Number(machine), false);
  const flags = [
    `--max-old-space-size=${heapMiB}`,
    `--max-semi-space-size=${youngMiB}`,
    ...(profile ? ["--cpu-prof", `--cpu-prof-dir=${join(tmpdir(), "exn-bench-profile")}`] : []),
  ];
  const child = start(
    COORDINATOR_CORE,
    [...flags, join(built, "src/coordinatormain.js")],
    ["ignore", "ignore", "pipe"],
    {
      EXITNODE_ETC: folder,
      EXITNODE_VAR: folder,
      EXITNODE_RUN: folder,
      EXITNODE_LOG: "warn",
      MALLOC_ARENA_MAX: "1",
      MALLOC_TRIM_THRESHOLD_: "65536",
      MALLOC_MMAP_THRESHOLD_: "65536",
    },
  );
  let said = "";
  child.stderr.on("data", (chunk) => {
    said = (said + chunk).slice(-4_000);
  });
  const startedAt = performance.now();
  for (;;) {
    try {
      const status = call(folder, "GET", "/status");
      if (status.publicKey === undefined) throw new Error(JSON.stringify(status));
      return { child, status };
    } catch (error) {
      if (child.exitCode !== null || performance.now() - startedAt > 20_000)
        throw new Error(`the coordinator did not start: ${said} ${error}`);
      await sleep(100);
    }
  }
}

export const stop = (child, signal) =>
  new Promise((resolve) => {
    child.on("exit", resolve);
    child.kill(signal);
  });

/** The process with the devices, and how it is asked (benchload.ts). */
export function startLoad() {
  const child = start(
    LOAD_CORE,
    ["--max-old-space-size=8000", join(built, "test/coordinator/benchload.js")],
    ["ignore", "inherit", "inherit", "ipc"],
  );
  const ask = (command) =>
    new Promise((resolve, reject) => {
      child.once("message", resolve);
      child.once("exit", () => reject(new Error("the load ended")));
      child.send(command);
    });
  return { child, ask };
}

export const percentiles = (delays) => {
  const sorted = [...delays].sort((a, b) => a - b);
  const at = (share) => round(sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? Number.NaN);
  return { median: at(0.5), p99: at(0.99) };
};

/** `of`: VmRSS, or VmHWM for the most there ever was. */
export const memoryMiB = (pid, of = "VmRSS") =>
  round(Number(new RegExp(`${of}:\\s+(\\d+)`).exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]) / 1_024, 0);

/** Of the process and its threads, from clock ticks of 10 ms. */
export const cpuMs = (pid) => {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1].split(" ");
  return (Number(fields[11]) + Number(fields[12])) * 10;
};
