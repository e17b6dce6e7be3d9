// What the coordinator costs with many devices: joins a second, memory, how soon a change and a revocation are known,
// processor time for one change, and how soon all are back after a restart. The coordinator has core 0, the devices
// core 1; the network is people with ten devices each and four exit nodes that everybody may use.
import { execFileSync, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import Database from "libsql";

const { values: options } = parseArgs({
  options: {
    json: { type: "boolean" },
    devices: { type: "string", default: "1000,10000" },
    changes: { type: "string", default: "200" },
    revocations: { type: "string", default: "40" },
    profile: { type: "boolean" },
  },
});
const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const built = join(root, process.env.EXN_BUILD ?? "build");
const say = (line) => process.stderr.write(`${line}\n`);
const round = (number, digits = 1) => Number(number.toFixed(digits));
const [COORDINATOR_CORE, LOAD_CORE] = ["0", "1"];
const EXITS = 4;
const DEVICES_EACH = 10;
const SETTLE_MS = 5_000;
const children = new Set();
const folders = [];
process.on("exit", () => {
  for (const child of children) child.kill("SIGKILL");
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});
process.on("SIGINT", () => process.exit(130));
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function start(core, args, stdio, env = {}) {
  const child = spawn("taskset", ["-c", core, process.execPath, ...args], {
    env: { ...process.env, ...env },
    stdio,
  });
  children.add(child);
  child.on("exit", () => children.delete(child));
  return child;
}

async function startCoordinator(folder) {
  const flags = [
    "--max-old-space-size=900",
    ...(options.profile ? ["--cpu-prof", `--cpu-prof-dir=${join(tmpdir(), "exn-bench-profile")}`] : []),
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
    },
  );
  let said = "";
  child.stderr.on("data", (chunk) => {
    said = (said + chunk).slice(-4_000);
  });
  const startedAt = performance.now();
  for (;;) {
    try {
      const status = JSON.parse(
        execFileSync("curl", ["-s", "--unix-socket", join(folder, "admin.sock"), "http://x/api/v1/status"], {
          encoding: "utf8",
          stdio: ["ignore", "pipe", "ignore"],
        }),
      );
      if (status.publicKey === undefined) throw new Error(JSON.stringify(status));
      return { child, status };
    } catch (error) {
      if (child.exitCode !== null || performance.now() - startedAt > 20_000)
        throw new Error(`the coordinator did not start: ${said} ${error}`);
      await sleep(100);
    }
  }
}

const stop = (child, signal) =>
  new Promise((resolve) => {
    child.on("exit", resolve);
    child.kill(signal);
  });

/** Straight into the store: what is measured is not the making of people and keys. */
function seed(path, people) {
  const database = new Database(path);
  const now = Date.now();
  const keys = [];
  const secretOf = (n) => createHash("sha256").update(`bench ${n}`).digest().subarray(0, 16);
  database.exec("begin");
  const addUser = database.prepare(
    "insert into member (id, login, display_name, role, created_at_ms) values (?, ?, ?, 'member', ?)",
  );
  const addKey = database.prepare(
    `insert into join_key (id, secret_hash, role, reusable, created_at_ms, expires_at_ms, user_id) values (?, ?, ?, 1, ?, ?, ?)`,
  );
  const add = (n, role, user, count) => {
    const secret = secretText(secretOf(n));
    addKey.run(`kbench${n}`, hashSecret(secret), role, now, now + 86_400_000, user);
    keys.push({ secret, role, count });
  };
  add(0, "exit-node", null, EXITS);
  for (let n = 1; n <= people; n++) {
    addUser.run(`ubench${n}`, `person${n}@example.org`, `Person ${n}`, now);
    add(n, "device", `ubench${n}`, DEVICES_EACH);
  }
  database.exec("commit");
  database.close();
  return keys;
}

const { hashSecret, secretText } = await import(join(built, "src/coordinator/joinkeys.js"));

const percentiles = (delays) => {
  const sorted = [...delays].sort((a, b) => a - b);
  const at = (share) => round(sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? Number.NaN);
  return { median: at(0.5), p99: at(0.99) };
};
const memoryMiB = (pid) =>
  round(Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]) / 1_024, 0);
/** Of the process and its threads, from clock ticks of 10 ms. */
const cpuMs = (pid) => {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1].split(" ");
  return (Number(fields[11]) + Number(fields[12])) * 10;
};

async function measure(count) {
  const folder = mkdtempSync(join(tmpdir(), "exn-bench-"));
  folders.push(folder);
  mkdirSync(folder, { recursive: true });
  const port = 24_440;
  writeFileSync(
    join(folder, "coordinator.yaml"),
    `listen: {address: 127.0.0.1, port: ${port}}
urls: ["https://127.0.0.1:${port}"]
adminTokenSha256: "${"0".repeat(64)}"
relay: {enabled: false}
`,
  );
  let coordinator = await startCoordinator(folder); // makes the tables
  await stop(coordinator.child, "SIGTERM");
  const keys = seed(join(folder, "coordinator.db"), Math.round((count - EXITS) / DEVICES_EACH));
  coordinator = await startCoordinator(folder);
  const load = start(
    LOAD_CORE,
    ["--max-old-space-size=8000", join(built, "test/coordinator/benchload.js")],
    ["ignore", "inherit", "inherit", "ipc"],
  );
  const ask = (command) =>
    new Promise((resolve, reject) => {
      load.once("message", resolve);
      load.once("exit", () => reject(new Error("the load ended")));
      load.send(command);
    });

  const devices = keys.reduce((sum, key) => sum + key.count, 0);
  const cpuBefore = [coordinator.child, load].map(({ pid }) => cpuMs(pid));
  const joined = await ask({ do: "join", port, publicKey: coordinator.status.publicKey, secrets: keys });
  say(`${devices} devices: ${round(joined.joinsPerSecond)} joins/s, ${joined.failed} tried again`);
  const [ours, theirs] = [coordinator.child, load].map(({ pid }, i) => round((cpuMs(pid) - cpuBefore[i]) / devices, 2));
  say(`processor time of a join: coordinator ${ours} ms, its device ${theirs} ms`);
  await sleep(SETTLE_MS);
  const memory = memoryMiB(coordinator.child.pid);
  say(`memory ${memory} MiB`);

  const before = cpuMs(coordinator.child.pid);
  const changes = Number(options.changes);
  const pushed = await ask({ do: "push", rounds: changes });
  const cpuPerChangeMs = round((cpuMs(coordinator.child.pid) - before) / changes, 2);
  const pushMs = percentiles(pushed.delays);
  say(`push to ${round(pushed.peers)} peers each: ${JSON.stringify(pushMs)}, ${cpuPerChangeMs} ms of processor time`);

  const revoked = await ask({ do: "revoke", rounds: Number(options.revocations), socket: join(folder, "admin.sock") });
  const revocationMs = percentiles(revoked.delays);
  say(`revocation: ${JSON.stringify(revocationMs)}, ${revoked.confirmed} of ${revoked.delays.length} confirmed`);

  await ask({ do: "expect-back" });
  await stop(coordinator.child, options.profile ? "SIGTERM" : "SIGKILL");
  coordinator = await startCoordinator(folder);
  const { seconds, tried, reasons } = await ask({ do: "back" });
  say(`all back ${round(seconds)} s after the kill: ${tried} dials, ${JSON.stringify(reasons)}`);
  load.kill("SIGKILL");
  await stop(coordinator.child, "SIGTERM");
  return {
    bench: "coordinator",
    devices,
    memoryMiB: memory,
    joinsPerSecond: round(joined.joinsPerSecond),
    pushMs,
    cpuPerChangeMs,
    revocationMs,
    reconnectSeconds: round(seconds),
  };
}

for (const count of options.devices.split(",").map(Number)) {
  const result = await measure(count);
  if (options.json) process.stdout.write(`${JSON.stringify(result)}\n`);
  else say(JSON.stringify(result, null, 2));
}
process.exit(0);
