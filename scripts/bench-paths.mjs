// Every pair of networks in the lab: whether the path becomes direct, how soon, and how it recovers. Medians,
// and the worst of a row's runs.
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const { values: options } = parseArgs({
  options: {
    json: { type: "boolean" },
    runs: { type: "string", default: "1" },
    rows: { type: "string", default: "ordinary-ordinary,symmetric-ordinary,symmetric-symmetric,udp-blocked-ordinary" },
    recovery: { type: "boolean" },
  },
});
const build = join(dirname(fileURLToPath(import.meta.url)), "..", process.env.EXN_BUILD ?? "build");
const { expected, KINDS, parseRows, rowName } = await import(join(build, "test/e2e/pathrows.js"));
const { PathWorld } = await import(join(build, "test/e2e/pathworld.js"));

const runs = Number(options.runs);
const rows = parseRows(options.rows);
if (!Number.isInteger(runs) || runs < 1 || runs > 20) throw new Error(`--runs must be 1 to 20, got ${options.runs}`);
if (rows === undefined)
  throw new Error(`--rows must be all or pairs like ordinary-symmetric of ${KINDS.join(", ")}; got ${options.rows}`);

const say = (line) => process.stderr.write(`${line}\n`);
const inOrder = (list) => list.filter((one) => one !== undefined).sort((a, b) => a - b);
const whole = (ms) => (ms === undefined ? null : Math.round(ms));
const median = (list) => whole(inOrder(list)[Math.floor(inOrder(list).length / 2)]);
const worst = (list) => whole(inOrder(list).at(-1));
const seconds = (ms) => (ms === null ? "–" : `${(ms / 1000).toFixed(2)} s`);

const world = new PathWorld();
const results = [];
try {
  await world.raise();
  for (const row of rows) {
    const measured = [];
    const recovered = [];
    let failed;
    for (let run = 0; run < runs; run++) {
      try {
        await world.begin(row);
        const one = await world.measure(row);
        measured.push(one);
        if (options.recovery && one.path === "direct") recovered.push(await world.recover());
      } catch (error) {
        failed = error.message;
      }
    }
    const paths = [...new Set(measured.map(({ path }) => path))];
    const result = {
      ...row,
      path: paths.join(" or ") || "none",
      expected: expected(row).path,
      runs: measured.length,
      /** Of the runs. */
      direct: measured.filter(({ path }) => path === "direct").length,
      firstPacketMs: median(measured.map(({ firstPacketMs }) => firstPacketMs)),
      firstPacketWorstMs: worst(measured.map(({ firstPacketMs }) => firstPacketMs)),
      directMs: median(measured.map(({ directMs }) => directMs)),
      directWorstMs: worst(measured.map(({ directMs }) => directMs)),
      recoveryMs: median(recovered.map(({ outageMs }) => outageMs)),
      directAgainMs: median(recovered.map(({ backMs }) => backMs)),
      ...(measured.at(-1)?.why === undefined ? {} : { why: measured.at(-1).why }),
      ...(failed === undefined ? {} : { failed }),
    };
    results.push(result);
    const mark = result.path === result.expected ? "" : `   EXPECTED ${result.expected}`;
    const both = (ms, worstMs) => (runs === 1 ? seconds(ms) : `${seconds(ms)} (${seconds(worstMs)})`);
    const first = both(result.firstPacketMs, result.firstPacketWorstMs);
    const times = `first packet ${first}, direct ${result.direct}/${result.runs} ${both(result.directMs, result.directWorstMs)}`;
    const again = options.recovery ? `, recovery ${seconds(result.recoveryMs)}` : "";
    say(`${rowName(row).padEnd(44)} ${result.path.padEnd(8)} ${times}${again}${mark}${failed ? `   ${failed}` : ""}`);
  }
} finally {
  await world.close();
}
const result = { bench: "paths", rows: results };
process.stdout.write(options.json ? `${JSON.stringify(result)}\n` : `${JSON.stringify(result, null, 2)}\n`);
