// Runs the built tests: what needs the machine's one lab beside what does not, each one file at a time; then, with the
// machine to itself, what measures one thing against another. Prints TAP, lane after lane, and one summary of all.
import { spawn } from "node:child_process";
import { createReadStream, createWriteStream, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { finished } from "node:stream/promises";

const built = process.argv[2] ?? "build";
const FILE_MAX_MS = 15 * 60_000;
const COUNTS = ["tests", "suites", "pass", "fail", "cancelled", "skipped", "todo"];

const ofTheLab = (file) => /^test\/(lab|e2e)\//.test(file);
/** Ratios of rates, and a virtual machine without hardware under it. */
const needsQuiet = (file) => /^test\/(vm\/|engine\/flood)/.test(file);

const files = readdirSync(join(built, "test"), { recursive: true })
  .map((name) => `test/${name}`)
  .filter((name) => name.endsWith(".test.js"))
  .sort();
const quiet = files.filter(needsQuiet);
const rest = files.filter((file) => !needsQuiet(file));

const folder = mkdtempSync(join(tmpdir(), "exitnode-lanes-"));
const startedAt = performance.now();
const counts = new Map(COUNTS.map((name) => [name, 0]));

function start(name, lane) {
  const path = join(folder, name);
  const options = ["--enable-source-maps", "--test", "--test-concurrency=1", "--test-reporter=tap"];
  // A failed test may leave something open that keeps its file's process from ending.
  options.push(`--test-timeout=${FILE_MAX_MS}`);
  const child = spawn(process.execPath, [...options, ...lane.map((file) => join(built, file))], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const log = createWriteStream(path);
  child.stdout.pipe(log);
  const ended = new Promise((resolve) => child.once("close", resolve));
  return { path, child, ended: Promise.all([ended, finished(log)]).then(([code]) => code === 0) };
}

async function show({ path, ended }) {
  const passed = await ended;
  for await (const line of createInterface({ input: createReadStream(path) })) {
    const [, name, count] = /^# (\w+) (\d+)$/.exec(line) ?? [];
    if (counts.has(name)) counts.set(name, counts.get(name) + Number(count));
    else if (!line.startsWith("# duration_ms")) console.log(line);
  }
  return passed;
}

const lanes = [
  start("lab", rest.filter(ofTheLab)),
  start(
    "rest",
    rest.filter((file) => !ofTheLab(file)),
  ),
];
for (const signal of ["SIGINT", "SIGTERM"])
  process.on(signal, () => {
    for (const { child } of lanes) child.kill(signal);
  });
let passed = true;
try {
  for (const lane of lanes) passed = (await show(lane)) && passed;
  passed = (await show(start("quiet", quiet))) && passed;
} finally {
  rmSync(folder, { recursive: true, force: true });
}
for (const [name, count] of counts) console.log(`# ${name} ${count}`);
console.log(`# duration_ms ${performance.now() - startedAt}`);
process.exit(passed && counts.get("fail") === 0 ? 0 : 1);
