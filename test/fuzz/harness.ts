import assert from "node:assert/strict";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { toHex } from "../../src/kit/bytes.js";
import { chanceOf } from "../wireguard/world.js";
import { type Coverage, type Place, ranAt } from "./coverage.js";
import { type Chance, mutateBytes, mutateText } from "./mutate.js";

/**
 * Fuzzing guided by coverage: inputs are mutations of a corpus that begins with valid examples, and an input that
 * reaches a block of src/ for the first time joins it. First every target searches; then, with coverage no longer
 * counted, it is fed what it is to stand, and the heap must not grow.
 */
export type Target = {
  readonly name: string;
  search(coverage: Coverage, amount: Amount): { readonly blocks: number; readonly corpus: number };
  feed(amount: Amount): { readonly grownBytes: number };
};

export type Amount = { readonly inputs: number; readonly seed: number };

/** An input that something did not stand. */
export class Broken extends Error {
  constructor(input: string, number: number, cause: unknown) {
    super(`input ${number}: ${input.slice(0, INPUT_SHOWN)}`, { cause });
  }
}

const INPUT_SHOWN = 2_000;
/** Inputs between two looks at the coverage. */
const BATCH = 64;
/** At the bound a newcomer takes a random place. */
const CORPUS_MAX = 256;
/** What the heap may differ by between two full collections: code that was compiled meanwhile, not one entry per input. */
const GROWTH_MAX_BYTES = 4 * 1024 * 1024;

/** A decoder of bytes. `run` throws what does not hold; whatever it keeps, it keeps bounded. */
export function bytes(name: string, seeds: readonly Uint8Array[], run: (input: Uint8Array) => void): Target {
  return targetOf(name, seeds, { mutate: mutateBytes, run, show: toHex });
}

/** A decoder of text. */
export function text(name: string, seeds: readonly string[], run: (input: string) => void): Target {
  return targetOf(name, seeds, { mutate: mutateText, run, show: JSON.stringify });
}

type Kind<Input> = {
  mutate(corpus: readonly Input[], chance: Chance): Input;
  run(input: Input): void;
  show(input: Input): string;
};

function targetOf<Input>(name: string, seeds: readonly Input[], { mutate, run, show }: Kind<Input>): Target {
  const corpus = [...seeds];
  const feed = (batch: readonly Input[], number: number): void => {
    for (const [i, input] of batch.entries())
      try {
        run(input);
      } catch (cause) {
        throw new Broken(show(input), number + i, cause);
      }
  };
  const batchOf = (length: number, chance: Chance): Input[] => Array.from({ length }, () => mutate(corpus, chance));

  return {
    name,
    search(coverage, { inputs, seed }) {
      const chance = chanceOf(seed);
      feed(seeds, 0);
      let blocks = coverage.fresh(coverage.look()).length;
      for (let number = 0; number < inputs; number += BATCH) {
        const batch = batchOf(BATCH, chance);
        feed(batch, number);
        const fresh = coverage.fresh(coverage.look());
        if (fresh.length === 0) continue;
        blocks += fresh.length;
        for (const input of whoReached(new Set(fresh), batch, (part) => feed(part, number), coverage))
          if (corpus.length < CORPUS_MAX) corpus.push(input);
          else corpus[Math.floor(chance() * CORPUS_MAX)] = input;
      }
      return { blocks, corpus: corpus.length };
    },
    feed({ inputs, seed }) {
      // Another stream than the search's.
      const chance = chanceOf(seed + 1);
      let before = 0;
      for (let number = 0; number < inputs; number += BATCH) {
        feed(batchOf(Math.min(BATCH, inputs - number), chance), number);
        if (before === 0 && number >= inputs / 2) before = heapBytes();
      }
      const grownBytes = heapBytes() - before;
      assert(grownBytes < GROWTH_MAX_BYTES, `the heap grew by ${grownBytes} bytes in the second half`);
      return { grownBytes };
    },
  };
}

/** Which inputs of the batch reached a wanted place: half by half once more. What hung on its forerunners may hide. */
function whoReached<Input>(
  wanted: Set<Place>,
  batch: readonly Input[],
  feed: (batch: readonly Input[]) => void,
  coverage: Coverage,
): Input[] {
  if (wanted.size === 0) return [];
  feed(batch);
  const ran = coverage.look();
  const reached = [...wanted].filter((place) => ranAt(ran, place));
  if (reached.length === 0) return [];
  if (batch.length > 1) {
    const middle = batch.length >> 1;
    const first = whoReached(wanted, batch.slice(0, middle), feed, coverage);
    return [...first, ...whoReached(wanted, batch.slice(middle), feed, coverage)];
  }
  for (const place of reached) wanted.delete(place);
  return [...batch];
}

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;

function heapBytes(): number {
  collectGarbage();
  return process.memoryUsage().heapUsed;
}
