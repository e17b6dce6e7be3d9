import { after, describe, test } from "node:test";
import { Coverage } from "./coverage.js";
import { targets } from "./targets.js";

/** The short form of scripts/fuzz: the same inputs every time. */
const SEARCHING = 2_000;
const INPUTS = 10_000;
const SEED = 20_261;

const coverage = new Coverage();
const all = targets();

describe("the search for inputs that reach something new", () => {
  after(() => coverage.stop());
  for (const target of all)
    test(`${target.name}: nothing breaks on the way`, (t) => {
      const { blocks, corpus } = target.search(coverage, { inputs: SEARCHING, seed: SEED });
      t.diagnostic(`${target.name}: ${blocks} blocks reached, ${corpus} inputs kept`);
    });
});

describe(`${INPUTS} random and mutated inputs`, () => {
  for (const target of all)
    test(`${target.name}: read or refused, and nothing else happens or grows`, () => {
      target.feed({ inputs: INPUTS, seed: SEED });
    });
});
