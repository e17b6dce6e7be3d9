import { type Code, I64, i32, i64, type Local, type Operand, type Routine } from "./assembler.js";

export const POLY1305_KEPT_BYTES = 40;

/**
 * Poly1305 (RFC 8439 §2.5) with digits of 32 bits in 64-bit variables. Clamping leaves r's digits below 2^28 and the
 * upper three divisible by four. A product of such a digit that lies at 2^128 is one of r/4 at 2^130, which is 5:
 * it comes back at the bottom as s = 5·r/4. So four digits and a few bits do, with 20 multiplications a block.
 *
 * The bottom digit is left with what folding added to it: it stays below 2^33.2, with a word of message below 2^33.7,
 * the other digits below 2^33, r below 2^28, s below 1.25·2^28. The largest sum of products is below 2^63.5.
 *
 * Not in vectors: those are busy with ChaCha20 meanwhile.
 */
export class Poly1305 {
  readonly #r: readonly Local[];
  readonly #s: readonly Local[];
  readonly #h: readonly Local[];
  readonly #d: readonly Local[];

  constructor(routine: Routine) {
    this.#r = routine.locals(I64, 4);
    this.#s = routine.locals(I64, 4);
    this.#h = routine.locals(I64, 5);
    this.#d = routine.locals(I64, 4);
  }

  /** Takes r from 16 bytes at `at`, clamped (§2.5.1), and begins a message. */
  start(at: Operand): Code {
    const done: Code[] = [];
    for (let i = 0; i < 4; i++) {
      const [r, s] = [pick(this.#r, i), pick(this.#s, i)];
      done.push(r.set(i64.and(i64.load32(at, 4 * i), i64.const(i === 0 ? 0x0fffffffn : 0x0ffffffcn))));
      if (i > 0) done.push(s.set(i64.add(r, i64.shrUnsigned(r, i64.const(2n)))));
    }
    for (const h of this.#h) done.push(h.set(i64.const(0n)));
    return done;
  }

  /** Takes in the 16 bytes of message at `at` + `distance`. */
  block(at: Operand, distance = 0): Code {
    return this.#takeIn([0, 4, 8, 12].map((word) => i64.load32(at, distance + word)));
  }

  /** The digits to POLY1305_KEPT_BYTES at `at`, and from there. */
  keep(at: Operand): Code {
    return this.#h.map((digit, index) => i64.store(at, 8 * index, digit));
  }

  recall(at: Operand): Code {
    return this.#h.map((digit, index) => digit.set(i64.load(at, 8 * index)));
  }

  /** The last block of an AEAD (§2.8): no associated data, `length` bytes of ciphertext. */
  lengths(length: Operand): Code {
    return this.#takeIn([[], [], i64.ofI32(length), []]);
  }

  /** Reduces fully, adds the second half of the one-time key at `padAt`, and writes the tag. */
  tag(padAt: Operand, to: Operand): Code {
    const h = this.#h;
    const done: Code[] = [this.#carry(), this.#foldTop(), this.#carry()];
    // h + 5 - 2^130 is taken where it is not negative, without a branch.
    const g = this.#d;
    const carry = pick(this.#s, 1);
    done.push(carry.set(i64.const(5n)));
    for (let i = 0; i < 4; i++) {
      done.push(pick(g, i).set(i64.add(pick(h, i), carry)));
      done.push(carry.set(high(pick(g, i))), pick(g, i).set(low(pick(g, i))));
    }
    const mask = pick(this.#s, 2);
    done.push(mask.set(i64.sub(i64.const(0n), i64.shrUnsigned(i64.add(pick(h, 4), carry), i64.const(2n)))));
    const other = pick(this.#s, 3);
    done.push(other.set(i64.sub(i64.const(-1n), mask)), carry.set(i64.const(0n)));
    for (let i = 0; i < 4; i++) {
      const digit = i64.or(i64.and(pick(g, i), mask), i64.and(pick(h, i), other));
      done.push(carry.set(i64.add(i64.add(digit, i64.load32(padAt, 4 * i)), carry)));
      done.push(i64.store32(to, 4 * i, carry), carry.set(high(carry)));
    }
    return done;
  }

  #takeIn(words: readonly Code[]): Code {
    const [r, s, h, d] = [this.#r, this.#s, this.#h, this.#d];
    const done: Code[] = [];
    for (const [i, word] of words.entries()) if (word.length > 0) done.push(pick(h, i).set(i64.add(pick(h, i), word)));
    done.push(pick(h, 4).set(i64.add(pick(h, 4), i64.const(1n))));
    // d[k] = Σ h[i]·r[k-i], and where k < i the product comes round as h[i]·s[4+k-i].
    for (let k = 0; k < 4; k++) {
      let sum: Code | undefined;
      for (let i = 0; i < 5; i++) {
        if (i === 4 && k === 0) continue; // h[4]·r[0] is digit 4
        const product = i64.mul(pick(h, i), i <= k ? pick(r, k - i) : pick(s, 4 + k - i));
        sum = sum === undefined ? product : i64.add(sum, product);
      }
      done.push(pick(d, k).set(sum ?? []));
    }
    const top = pick(h, 4);
    done.push(top.set(i64.mul(top, pick(r, 0))));
    for (let k = 1; k < 4; k++) done.push(pick(d, k).set(i64.add(pick(d, k), high(pick(d, k - 1)))));
    done.push(top.set(i64.add(top, high(pick(d, 3)))));
    for (let k = 0; k < 4; k++) done.push(pick(h, k).set(low(pick(d, k))));
    return [done, this.#foldTop()];
  }

  /** What lies at 2^130 and above returns five-fold at the bottom. */
  #foldTop(): Code {
    const [bottom, top] = [pick(this.#h, 0), pick(this.#h, 4)];
    const five = i64.add(i64.shrUnsigned(top, i64.const(2n)), i64.and(top, i64.const(-4n)));
    return [bottom.set(i64.add(bottom, five)), top.set(i64.and(top, i64.const(3n)))];
  }

  #carry(): Code {
    const done: Code[] = [];
    for (let i = 0; i < 4; i++) {
      const [from, to] = [pick(this.#h, i), pick(this.#h, i + 1)];
      done.push(to.set(i64.add(to, high(from))), from.set(low(from)));
    }
    return done;
  }
}

const high = (value: Operand): Code => i64.shrUnsigned(value, i64.const(32n));
const low = (value: Operand): Code => i64.ofI32(i32.ofI64(value));

function pick(locals: readonly Local[], index: number): Local {
  const local = locals[index];
  if (local === undefined) throw new Error(`there is no digit ${index}`);
  return local;
}
