import {
  type Code,
  fill,
  I32,
  i32,
  lesser,
  loopWhile,
  type Operand,
  Routine,
  repeatWhile,
  V128,
  v128,
  when,
} from "./assembler.js";
import { BLOCKS_BYTES, Chacha20 } from "./chacha20.js";
import { POLY1305_KEPT_BYTES, Poly1305 } from "./poly1305.js";

/**
 * ChaCha20-Poly1305 (RFC 8439 §2.8) without associated data, in place. Key stream is made four blocks at a time: the
 * first batch is the one-time key and 192 bytes, each further one 256 bytes. With each double round two blocks of
 * ciphertext enter the Poly1305: it has the integer units, ChaCha20 the vector units, and the processor works on both.
 */
const FIRST_BYTES = BLOCKS_BYTES - 64;
const DOUBLE_ROUNDS = 10;
const TAG_BYTES = 16;

/** Working memory at `scratch`: key stream of the first batch, of a last one that is not used up, and what is kept. */
const KEPT_DIGITS = 2 * BLOCKS_BYTES;
const KEPT_WORDS = KEPT_DIGITS + POLY1305_KEPT_BYTES;
export const AEAD_SCRATCH_BYTES = KEPT_WORDS + 64;

/**
 * sealRun(keyAt, low, high, at, length, stride, count): packets of one length, `stride` apart, under consecutive
 * counters. What is left of one enters the Poly1305 during the first batch of the next.
 */
export function sealRun(scratch: number): Routine {
  const routine = new Routine([I32, I32, I32, I32, I32, I32, I32]);
  const [packet, stride, count] = [packetOf(routine, scratch), routine.parameter(5), routine.parameter(6)];
  const { low, high, at, length, from, stop, batch, entered, end } = packet;
  const tagAt = routine.local(I32);
  const finishTag = [packet.enter(), packet.tag(tagAt)];
  const first: Code = [
    when(tagAt, finishTag),
    packet.startFirst(),
    entered.set(at),
    packet.useFirst(lesser(length, i32.const(FIRST_BYTES))),
    from.set(i32.add(at, i32.const(FIRST_BYTES))),
  ];
  const seal: Code = [
    batch.set(i32.const(0)),
    from.set(at),
    stop.set(i32.add(at, length)),
    repeatWhile(i32.lessUnsigned(from, stop), [
      packet.rounds(),
      when(batch, packet.use(), first),
      batch.set(i32.add(batch, i32.const(1))),
      end.set(from),
    ]),
    // The last block is filled with zeros (§2.8), which lie where the tag will.
    v128.store(stop, 0, ZEROS),
    end.set(i32.add(at, padded(length))),
    tagAt.set(stop),
  ];
  const advance: Code = [
    low.set(i32.add(low, i32.const(1))),
    high.set(i32.add(high, i32.eqz(low))),
    at.set(i32.add(at, stride)),
    count.set(i32.sub(count, i32.const(1))),
  ];
  return routine.write(when(count, [repeatWhile(count, [seal, advance]), finishTag]));
}

/** open(keyAt, low, high, at, length): 1, or for a forgery 0, and its bytes are zeros. */
export function open(scratch: number): Routine {
  const routine = new Routine([I32, I32, I32, I32, I32], I32);
  const packet = packetOf(routine, scratch);
  const { at, length, from, stop, batch, entered, end } = packet;
  const [tag, last, genuine] = [routine.local(V128), routine.local(I32), routine.local(I32)];
  // Ciphertext enters the Poly1305 before it is decrypted, and only the first batch tells with which key. Its own 192
  // bytes are decrypted after the second batch, during which they enter.
  const further: Code = [
    packet.enter(),
    when(i32.eq(batch, i32.const(1)), packet.useFirst(i32.const(FIRST_BYTES))),
    packet.use(),
  ];
  return routine.write([
    batch.set(i32.const(0)),
    from.set(at),
    entered.set(at),
    end.set(at),
    stop.set(i32.add(at, length)),
    last.set(i32.add(at, padded(length))),
    tag.set(v128.load(stop)),
    v128.store(stop, 0, ZEROS),
    repeatWhile(i32.lessUnsigned(from, stop), [
      packet.rounds(),
      when(batch, further, [packet.startFirst(), from.set(i32.add(at, i32.const(FIRST_BYTES)))]),
      batch.set(i32.add(batch, i32.const(1))),
      end.set(lesser(i32.add(from, i32.const(BLOCKS_BYTES)), last)),
    ]),
    packet.enter(),
    when(i32.eq(batch, i32.const(1)), packet.useFirst(length)),
    packet.tag(stop),
    genuine.set(i32.eqz(v128.anyTrue(v128.xor(tag, v128.load(stop))))),
    when(i32.eqz(genuine), fill(at, i32.const(0), length)),
    genuine.value,
  ]);
}

const ZEROS = v128.const(new Array<number>(16).fill(0));
const padded = (length: Operand): Code => i32.and(i32.add(length, i32.const(TAG_BYTES - 1)), i32.const(-TAG_BYTES));

/** What sealing and opening share: parameters, variables, and the steps that are written with them. */
function packetOf(routine: Routine, scratch: number) {
  const [keyAt, low, high] = [routine.parameter(0), routine.parameter(1), routine.parameter(2)];
  const [at, length] = [routine.parameter(3), routine.parameter(4)];
  const [chacha, poly] = [new Chacha20(routine), new Poly1305(routine)];
  /** The batch's number; where its key stream goes; where the packet ends. */
  const [batch, from, stop] = [routine.local(I32), routine.local(I32), routine.local(I32)];
  /** How far the ciphertext has entered the Poly1305, and how far it may. */
  const [entered, end] = [routine.local(I32), routine.local(I32)];
  const [fused, alone, i] = [routine.local(I32), routine.local(I32), routine.local(I32)];
  const input = { keyAt, low, high, block: i32.shl(batch, i32.const(2)) };

  /** Exclusive-ors key stream from scratch + `distance` into `count` bytes, and on to the end of a 16-byte block. */
  const useScratch = (distance: number, to: Operand, count: Operand): Code => [
    i.set(i32.const(0)),
    loopWhile(i32.lessUnsigned(i, count), [
      v128.store(i32.add(to, i), 0, v128.xor(v128.load(i32.add(to, i)), v128.load(i, scratch + distance))),
      i.set(i32.add(i, i32.const(16))),
    ]),
  ];
  const left = i32.sub(stop, from);
  const doubleRound = chacha.doubleRound();
  // V8 orders pure instructions by what they end in. With variables only, all of Poly1305 comes before all of the
  // double round, and the processor looks ahead too short a way to mix them. Both end in memory here, in one chain of
  // stores, and come out interleaved: 1450 ns for 1640 with 1420 bytes.
  const digits = i32.const(scratch + KEPT_DIGITS);

  return {
    ...{ low, high, at, length, batch, from, stop, entered, end },
    /** What may enter the Poly1305 and has not, without ChaCha20 beside it. */
    enter: (): Code =>
      loopWhile(i32.lessUnsigned(entered, end), [
        poly.block(entered),
        entered.set(i32.add(entered, i32.const(TAG_BYTES))),
      ]),
    /** Four blocks of key stream into the variables, ten pairs of ciphertext blocks at most into the Poly1305. */
    rounds: (): Code => [
      chacha.start(input),
      fused.set(lesser(i32.shrUnsigned(i32.sub(end, entered), i32.const(5)), i32.const(DOUBLE_ROUNDS))),
      alone.set(i32.sub(i32.const(DOUBLE_ROUNDS), fused)),
      when(fused, [
        poly.keep(digits),
        repeatWhile(fused, [
          poly.recall(digits),
          doubleRound,
          poly.block(entered),
          poly.block(entered, 16),
          poly.keep(digits),
          chacha.keep(i32.const(scratch + KEPT_WORDS)),
          entered.set(i32.add(entered, i32.const(32))),
          fused.set(i32.sub(fused, i32.const(1))),
        ]),
        poly.recall(digits),
      ]),
      loopWhile(alone, [doubleRound, alone.set(i32.sub(alone, i32.const(1)))]),
      chacha.finish(input),
    ],
    startFirst: (): Code => [chacha.put("store", i32.const(scratch)), poly.start(i32.const(scratch))],
    useFirst: (count: Operand): Code => useScratch(64, at, count),
    use: (): Code => [
      when(
        i32.lessUnsigned(left, i32.const(BLOCKS_BYTES)),
        [chacha.put("store", i32.const(scratch + BLOCKS_BYTES)), useScratch(BLOCKS_BYTES, from, left)],
        chacha.put("xor", from),
      ),
      from.set(i32.add(from, i32.const(BLOCKS_BYTES))),
    ],
    tag: (to: Operand): Code => [poly.lengths(length), poly.tag(i32.const(scratch + 16), to)],
  };
}
