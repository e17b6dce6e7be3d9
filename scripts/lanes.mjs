// Runs the built tests in three lanes beside each other, each one file at a time; then, with the machine to itself, what
// measures one thing against another. Prints TAP, lane after lane, then each lane's longest files and failures, and one
// summary of all.
import { spawn } from "node:child_process";
import {
  createReadStream,
  createWriteStream,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
} from "node:fs";
import { getPriority, setPriority, tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { finished } from "node:stream/promises";

const built = process.argv[2] ?? "build";
const FILE_MAX_MS = 15 * 60_000;
const NICENESS = 5;
const COUNTS = ["tests", "suites", "pass", "fail", "cancelled", "skipped", "todo"];

/** What uses the same names or the same place on this machine is in one lane. */
const LANES = {
  /** The machine's one lab. */
  lab: /^test\/(e2e\/|lab\/(?!pve))/,
  /** Namespaces and containers of their own; most of the time they wait. */
  network: /^test\/(agent|engine|lab|nat|netconf|relay|sys|wireguard)\//,
  /** Everything else; most of the time it reckons, and lets the others go first: they have packets to be in time for. */
  programs: /^/,
};
/** Ratios of rates, and a virtual machine without hardware under it. */
const QUIET = /^test\/(vm\/|engine\/flood)/;

const files = readdirSync(join(built, "test"), { recursive: true })
  .map((name) => `test/${name}`)
  .filter((name) => name.endsWith(".test.js"))
  .sort();
const laneOf = (file) => (QUIET.test(file) ? "quiet" : Object.keys(LANES).find((lane) => LANES[lane].test(file)));

const folder = mkdtempSync(join(tmpdir(), "exitnode-lanes-"));
const startedAt = performance.now();
const children = [];
const summaries = [];
const counts = new Map(COUNTS.map((name) => [name, 0]));

function start(name) {
  const path = join(folder, name);
  const lane = files.filter((file) => laneOf(file) === name);
  const options = ["--enable-source-maps", "--test", "--test-concurrency=1"];
  options.push("--test-reporter=tap", "--test-reporter-destination=stdout");
  options.push("--test-reporter=./scripts/summary.mjs", `--test-reporter-destination=${path}.summary`);
  // A failed test may leave something open that keeps its file's process from ending.
  options.push(`--test-timeout=${FILE_MAX_MS}`);
  const child = spawn(process.execPath, [...options, ...lane.map((file) => join(built, file))], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  children.push(child);
  if (name === "programs") setPriority(child.pid, Math.min(getPriority() + NICENESS, 19));
  const log = createWriteStream(path);
  child.stdout.pipe(log);
  const ended = new Promise((resolve) => child.once("close", resolve));
  return { name, path, ended: Promise.all([ended, finished(log)]).then(([code]) => code === 0) };
}

async function show({ name: lane, path, ended }) {
  const passed = await ended;
  for await (const line of createInterface({ input: createReadStream(path) })) {
    const [, name, count] = /^# (\w+) (\d+)$/.exec(line) ?? [];
    if (counts.has(name)) counts.set(name, counts.get(name) + Number(count));
    else if (line.startsWith("# duration_ms"))
      summaries.push(`# the lane ${lane}: ${(line.split(" ")[2] / 1_000).toFixed(1)} s, its longest files:`);
    else console.log(line);
  }
  if (existsSync(`${path}.summary`)) summaries.push(readFileSync(`${path}.summary`, "utf8").trimEnd());
  return passed;
}

let stopped = false;
function stop(signal) {
  stopped = true;
  for (const child of children) child.kill(signal);
}
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, stop);
// Also when this process fails, as on a full disk.
process.on("exit", () => stop("SIGTERM"));

const lanes = Object.keys(LANES).map(start);
let passed = true;
try {
  for (const lane of lanes) passed = (await show(lane)) && passed;
  passed = !stopped && (await show(start("quiet"))) && passed;
} finally {
  rmSync(folder, { recursive: true, force: true });
}
for (const summary of summaries) console.log(summary);
for (const [name, count] of counts) console.log(`# ${name} ${count}`);
console.log(`# duration_ms ${performance.now() - startedAt}`);
process.exit(passed && counts.get("fail") === 0 ? 0 : 1);
