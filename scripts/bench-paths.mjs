// Every pair of networks in the lab: whether the path becomes direct, how soon, and how it recovers. Medians.
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
const median = (list) => {
  const known = list.filter((one) => one !== undefined).sort((a, b) => a - b);
  return known.length === 0 ? null : Math.round(known[Math.floor(known.length / 2)]);
};
const seconds = (ms) => (ms === null ? "–" : `${(ms / 1000).toFixed(1)} s`);

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
      firstPacketMs: median(measured.map(({ firstPacketMs }) => firstPacketMs)),
      directMs: median(measured.map(({ directMs }) => directMs)),
      recoveryMs: median(recovered.map(({ outageMs }) => outageMs)),
      directAgainMs: median(recovered.map(({ backMs }) => backMs)),
      ...(measured.at(-1)?.why === undefined ? {} : { why: measured.at(-1).why }),
      ...(failed === undefined ? {} : { failed }),
    };
    results.push(result);
    const mark = result.path === result.expected ? "" : `   EXPECTED ${result.expected}`;
    const times = `first packet ${seconds(result.firstPacketMs)}, direct ${seconds(result.directMs)}`;
    const again = options.recovery ? `, recovery ${seconds(result.recoveryMs)}` : "";
    say(`${rowName(row).padEnd(44)} ${result.path.padEnd(8)} ${times}${again}${mark}${failed ? `   ${failed}` : ""}`);
  }
} finally {
  await world.close();
}
const result = { bench: "paths", rows: results };
process.stdout.write(options.json ? `${JSON.stringify(result)}\n` : `${JSON.stringify(result, null, 2)}\n`);
