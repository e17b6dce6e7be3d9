import assert from "node:assert/strict";
import { test } from "node:test";
import { chanceOf } from "../wireguard/world.js";
import { targets } from "./fuzzing.js";

/** The short form of scripts/fuzz: the same inputs every time. */
const INPUTS = 10_000;
const SEED = 20_261;

for (const { name, feed } of targets())
  test(`${name}: ${INPUTS} random and mutated inputs are read or refused, and nothing else happens`, () => {
    const chance = chanceOf(SEED);
    let last = "";
    for (let i = 0; i < INPUTS; i++) {
      try {
        feed(chance, (input) => {
          last = input;
        });
      } catch (cause) {
        assert.fail(`input ${i}, ${last.slice(0, 2_000)}: ${cause instanceof Error ? cause.stack : cause}`);
      }
    }
  });
