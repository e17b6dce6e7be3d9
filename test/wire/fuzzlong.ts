import { parseArgs } from "node:util";
import { chanceOf } from "../wireguard/world.js";
import { targets } from "./fuzzing.js";

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
const inputs = Number(values.inputs);
const seed = Number(values.seed);
const chosen = targets().filter(({ name }) => name.toLowerCase().includes(values.only.toLowerCase()));

if (!Number.isInteger(inputs) || inputs < 1 || !Number.isInteger(seed) || chosen.length === 0) {
  const names = targets().map(({ name }) => `  ${name}\n`);
  process.stderr.write(`usage: scripts/fuzz [--inputs N] [--seed N] [--only WORD]\n${names.join("")}`);
  process.exit(2);
}

process.stdout.write(`seed ${seed}, ${inputs} inputs each\n`);
let failed = 0;
for (const { name, feed } of chosen) {
  const chance = chanceOf(seed);
  const startedAt = performance.now();
  let last = "";
  let fed = 0;
  try {
    for (; fed < inputs; fed++)
      feed(chance, (input) => {
        last = input;
      });
  } catch (error) {
    failed++;
    const words = error instanceof Error ? error.stack : String(error);
    process.stdout.write(`FAILED ${name}: input ${fed} of seed ${seed}\n${last}\n${words}\n`);
  }
  const seconds = (performance.now() - startedAt) / 1_000;
  process.stdout.write(`${name.padEnd(36)} ${fed} inputs, ${Math.round(fed / seconds)} a second\n`);
}
process.exit(failed === 0 ? 0 : 1);
