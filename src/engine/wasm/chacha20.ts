import { type Code, i32, type Local, type Operand, type Routine, V128, v128 } from "./assembler.js";

/**
 * ChaCha20 (RFC 8439 §2.3), four blocks at a time: vector i holds word i of all four, so that a round has no shuffle
 * but its rotations. Block counters, 4n to 4n+3, are the only difference between the lanes.
 */
export const BLOCKS_BYTES = 256;

const CONSTANTS = [0x61707865, 0x3320646e, 0x79622d32, 0x6b206574];
const COLUMNS_AND_DIAGONALS: readonly (readonly [number, number, number, number])[] = [
  [0, 4, 8, 12],
  [1, 5, 9, 13],
  [2, 6, 10, 14],
  [3, 7, 11, 15],
  [0, 5, 10, 15],
  [1, 6, 11, 12],
  [2, 7, 8, 13],
  [3, 4, 9, 14],
];

export type ChachaInput = {
  readonly keyAt: Operand;
  readonly low: Operand;
  readonly high: Operand;
  /** Number of the first of the four blocks. */
  readonly block: Operand;
};

type Four = readonly [Local, Local, Local, Local];

export class Chacha20 {
  readonly #x: readonly Local[];
  readonly #pairs: readonly Local[];

  constructor(routine: Routine) {
    this.#x = routine.locals(V128, 16);
    this.#pairs = routine.locals(V128, 4);
  }

  start(input: ChachaInput): Code {
    return this.#x.map((word, index) => word.set(initial(index, input)));
  }

  doubleRound(): Code {
    return COLUMNS_AND_DIAGONALS.map((words) => this.#quarterRound(words));
  }

  /** Four words, one that each quarter round ends with, to 64 bytes at `at`. */
  keep(at: Operand): Code {
    return this.#x.slice(4, 8).map((word, index) => v128.store(at, 16 * index, word));
  }

  /** The initial words added: the variables hold key stream, still by words. */
  finish(input: ChachaInput): Code {
    return this.#x.map((word, index) => word.set(v128.add32(word, initial(index, input))));
  }

  /** Writes 256 bytes of key stream to `to`, or exclusive-ors them into what is there. */
  put(how: "store" | "xor", to: Operand): Code {
    const done: Code[] = [];
    const [ab, AB, cd, CD] = fourOf(this.#pairs);
    for (let group = 0; group < 4; group++) {
      const [a, b, c, d] = this.#four([group * 4, group * 4 + 1, group * 4 + 2, group * 4 + 3]);
      done.push(ab.set(lower32(a, b)), AB.set(upper32(a, b)), cd.set(lower32(c, d)), CD.set(upper32(c, d)));
      for (const [block, stream] of [lower64(ab, cd), upper64(ab, cd), lower64(AB, CD), upper64(AB, CD)].entries()) {
        const distance = block * 64 + group * 16;
        done.push(v128.store(to, distance, how === "store" ? stream : v128.xor(stream, v128.load(to, distance))));
      }
    }
    return done;
  }

  #quarterRound(words: readonly [number, number, number, number]): Code {
    const [a, b, c, d] = this.#four(words);
    const half = (left: number, right: number): Code => [
      a.set(v128.add32(a, b)),
      d.set(rotatedByBytes(v128.xor(d, a), left)),
      c.set(v128.add32(c, d)),
      b.set(v128.xor(b, c)),
      b.set(v128.or(v128.shl32(b, i32.const(right)), v128.shrUnsigned32(b, i32.const(32 - right)))),
    ];
    return [half(16, 12), half(8, 7)];
  }

  #four(indices: readonly number[]): Four {
    return fourOf(indices.map((index) => this.#x[index]));
  }
}

function initial(index: number, { keyAt, low, high, block }: ChachaInput): Code {
  const constant = CONSTANTS[index];
  if (constant !== undefined) return words(constant, constant, constant, constant);
  if (index < 12) return v128.load32Splat(keyAt, (index - 4) * 4);
  if (index === 12) return v128.add32(v128.splat32(block), words(0, 1, 2, 3));
  if (index === 13) return words(0, 0, 0, 0);
  return v128.splat32(index === 14 ? low : high);
}

/** By 8 and by 16 a rotation moves bytes: one instruction instead of three. */
function rotatedByBytes(value: Code, by: number): Code {
  const bytes = Array.from({ length: 16 }, (_, i) => (i & ~3) | ((i - by / 8) & 3));
  return v128.swizzle(value, v128.const(bytes));
}

const lanes32 = (...lanes: readonly number[]) => lanes.flatMap((lane) => [0, 1, 2, 3].map((byte) => lane * 4 + byte));
const lower32 = (a: Operand, b: Operand): Code => v128.shuffle(lanes32(0, 4, 1, 5), a, b);
const upper32 = (a: Operand, b: Operand): Code => v128.shuffle(lanes32(2, 6, 3, 7), a, b);
const lower64 = (a: Operand, b: Operand): Code => v128.shuffle(lanes32(0, 1, 4, 5), a, b);
const upper64 = (a: Operand, b: Operand): Code => v128.shuffle(lanes32(2, 3, 6, 7), a, b);

const words = (...values: readonly number[]): Code =>
  v128.const(values.flatMap((value) => [0, 8, 16, 24].map((shift) => (value >>> shift) & 0xff)));

function fourOf(locals: readonly (Local | undefined)[]): Four {
  const [a, b, c, d] = locals;
  if (a === undefined || b === undefined || c === undefined || d === undefined) throw new Error("expected four words");
  return [a, b, c, d];
}
