import { parseArgs } from "node:util";
import { Coverage } from "./coverage.js";
import { Broken } from "./harness.js";
import { targets } from "./targets.js";

/**
 * The long form of fuzz.test.ts, behind scripts/fuzz: so many inputs for each target, and how many a second. What a
 * target does not stand is printed with its seed and the input; the exit code is then 1.
 */
const { values } = parseArgs({
  options: {
    inputs: { type: "string", default: "1000000" },
    seed: { type: "string", default: String(Date.now() % 2 ** 31) },
    only: { type: "string", default: "" },
  },
});
/** What the search for a corpus may take of it: counting blocks halves the speed, and finds little after that. */
const SEARCHING_MAX = 50_000;
const inputs = Number(values.inputs);
const seed = Number(values.seed);
const coverage = new Coverage();
const chosen = targets().filter(({ name }) => name.toLowerCase().includes(values.only.toLowerCase()));

if (!Number.isInteger(inputs) || inputs < 1 || !Number.isInteger(seed) || chosen.length === 0) {
  const names = targets().map(({ name }) => `  ${name}\n`);
  process.stderr.write(`usage: scripts/fuzz [--inputs N] [--seed N] [--only WORD]\n${names.join("")}`);
  process.exit(2);
}

process.stdout.write(`seed ${seed}, ${inputs} inputs each\n`);
let failed = 0;
const attempt = (name: string, run: () => string): void => {
  let words: string;
  try {
    words = run();
  } catch (error) {
    failed++;
    const [what, why] = error instanceof Broken ? [error.message, error.cause] : ["", error];
    words = `FAILED with seed ${seed}, ${what}\n${why instanceof Error ? why.stack : why}`;
  }
  process.stdout.write(`${name.padEnd(42)} ${words}\n`);
};
for (const target of chosen)
  attempt(target.name, () => {
    const { blocks, corpus } = target.search(coverage, { inputs: Math.min(inputs, SEARCHING_MAX), seed });
    return `${blocks} blocks, ${corpus} inputs kept`;
  });
coverage.stop();
for (const target of chosen)
  attempt(target.name, () => {
    const startedAt = performance.now();
    const { grownBytes } = target.feed({ inputs, seed });
    const rate = Math.round((inputs / (performance.now() - startedAt)) * 1_000);
    return `${inputs} inputs, ${rate} a second, heap ${Math.round(grownBytes / 1_024)} KiB`;
  });
process.exit(failed === 0 ? 0 : 1);
