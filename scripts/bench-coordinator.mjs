// What the coordinator costs with many devices: joins a second, memory, how soon a change and a revocation are known,
// processor time for one change, and how soon all are back after a restart. The coordinator has core 0, the devices
// core 1; the network is people with ten devices each and four exit nodes that everybody may use. With --one-person
// all devices are one person's and know one another: a revocation is then everybody's. With --together all come back in
// one instant: one process then does the work of that many machines, so that 2,000 are a lot. Processor times are of the
// coordinator, start included; where the machine is busy with something else, they say what a core of its own would do.
import { createHash } from "node:crypto";
import { loadavg } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import Database from "libsql";
import {
  built,
  cpuMs,
  makeFolder,
  memoryMiB,
  percentiles,
  round,
  say,
  sleep,
  startCoordinator,
  startLoad,
  stop,
} from "./coordinatorload.mjs";

const { values: options } = parseArgs({
  options: {
    json: { type: "boolean" },
    devices: { type: "string", default: "1000,10000" },
    changes: { type: "string", default: "200" },
    revocations: { type: "string", default: "40" },
    "one-person": { type: "boolean" },
    together: { type: "boolean" },
    machine: { type: "string" }, // MiB that the coordinator's machine has
    profile: { type: "boolean" },
  },
});
const EXITS = 4;
const DEVICES_EACH = options["one-person"] ? Number.POSITIVE_INFINITY : 10;
const SETTLE_MS = 5_000;
const { hashSecret, secretText } = await import(join(built, "src/coordinator/joinkeys.js"));

/** Straight into the store: what is measured is not the making of people and keys. */
function seed(path, devices) {
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
  const each = Math.min(DEVICES_EACH, devices);
  for (let n = 1; n <= Math.round(devices / each); n++) {
    addUser.run(`ubench${n}`, `person${n}@example.org`, `Person ${n}`, now);
    add(n, "device", `ubench${n}`, each);
  }
  database.exec("commit");
  database.close();
  return keys;
}

async function measure(count) {
  const port = 24_440;
  const folder = makeFolder(port, [`https://127.0.0.1:${port}`]);
  let coordinator = await startCoordinator(folder, options); // makes the tables
  await stop(coordinator.child, "SIGTERM");
  const keys = seed(join(folder, "coordinator.db"), count - EXITS);
  coordinator = await startCoordinator(folder, options);
  const { child: load, ask } = startLoad();
  const devices = keys.reduce((sum, key) => sum + key.count, 0);
  const cpuBefore = [coordinator.child, load].map(({ pid }) => cpuMs(pid));
  const joined = await ask({ do: "join", ports: [port], publicKey: coordinator.status.publicKey, secrets: keys });
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

  await ask({ do: "expect-back", together: options.together === true });
  await stop(coordinator.child, options.profile ? "SIGTERM" : "SIGKILL");
  coordinator = await startCoordinator(folder, options);
  const { seconds, tried, reasons } = await ask({ do: "back" });
  const reconnectCpuSeconds = round(cpuMs(coordinator.child.pid) / 1_000);
  say(
    `all back ${round(seconds)} s after the kill, ${reconnectCpuSeconds} s of processor time: ${tried} dials, ${JSON.stringify(reasons)}`,
  );
  const peakMiB = memoryMiB(coordinator.child.pid, "VmHWM");
  say(`memory at its highest ${peakMiB} MiB`);
  load.kill("SIGKILL");
  await stop(coordinator.child, "SIGTERM");
  return {
    bench: "coordinator",
    devices,
    ...(options["one-person"] ? { onePerson: true } : {}),
    load: loadavg()[0],
    memoryMiB: memory,
    memoryPeakMiB: peakMiB,
    joinsPerSecond: round(joined.joinsPerSecond),
    joinCpuMs: ours,
    pushMs,
    cpuPerChangeMs,
    revocationMs,
    reconnectSeconds: round(seconds),
    reconnectCpuSeconds,
  };
}

for (const count of options.devices.split(",").map(Number)) {
  const result = await measure(count);
  if (options.json) process.stdout.write(`${JSON.stringify(result)}\n`);
  else say(JSON.stringify(result, null, 2));
}
process.exit(0);
