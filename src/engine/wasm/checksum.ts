import { type Code, I32, i32, type Local, loopWhile, Routine, V128, v128, when } from "./assembler.js";

/**
 * sum(at, length, initial): the ones' complement sum of RFC 1071, folded to 16 bits, not inverted. Its sum does not
 * depend on byte order (§2B) but for one exchange at the end, so words are read as they come.
 *
 * The only instruction that adds neighbouring 16-bit words takes them signed: with the top bit inverted each is
 * 2^15 too small, which is given back at the end. The whole sum fits 32 bits for 128 KiB, twice the longest packet.
 */
const UNROLLED_BYTES = 64;

export function sum(): Routine {
  const routine = new Routine([I32, I32, I32], I32);
  const [at, length, initial] = [routine.parameter(0), routine.parameter(1), routine.parameter(2)];
  const lanes = routine.locals(V128, 4);
  const [total, stop] = [routine.local(I32), routine.local(I32)];
  const [first] = lanes;
  if (first === undefined) throw new Error("expected four accumulators");
  return routine.write([
    stop.set(i32.add(at, i32.and(length, i32.const(-UNROLLED_BYTES)))),
    loopWhile(i32.lessUnsigned(at, stop), [
      lanes.map((lane, index) => lane.set(v128.add32(lane, pairs(at, 16 * index)))),
      at.set(i32.add(at, i32.const(UNROLLED_BYTES))),
    ]),
    stop.set(i32.add(at, i32.and(length, i32.const(48)))),
    loopWhile(i32.lessUnsigned(at, stop), [
      first.set(v128.add32(first, pairs(at, 0))),
      at.set(i32.add(at, i32.const(16))),
    ]),
    first.set(lanes.slice(1).reduce<Code>((sum, lane) => v128.add32(sum, lane), first.value)),
    total.set([0, 1, 2, 3].map((lane) => v128.lane32(first, lane)).reduce((sum, lane) => i32.add(sum, lane))),
    // Eight words of 2^15 for every 16 bytes.
    total.set(i32.add(total, i32.shl(i32.shrUnsigned(length, i32.const(4)), i32.const(18)))),
    total.set(folded(total)),
    stop.set(i32.add(at, i32.and(length, i32.const(14)))),
    loopWhile(i32.lessUnsigned(at, stop), [
      total.set(i32.add(total, i32.load16(at))),
      at.set(i32.add(at, i32.const(2))),
    ]),
    when(i32.and(length, i32.const(1)), total.set(i32.add(total, i32.load8(at)))),
    total.set(folded(total)),
    total.set(exchanged(total)),
    total.set(i32.add(total, folded(initial))),
    folded(total),
  ]);
}

/** Four sums of two words each. */
function pairs(at: Local, distance: number): Code {
  const word = (low: number, high: number): readonly number[] => Array.from({ length: 8 }, () => [low, high]).flat();
  return v128.dot16(v128.xor(v128.load(at, distance), v128.const(word(0, 0x80))), v128.const(word(1, 0)));
}

/** Twice, for the carry of the first. */
function folded(local: Local): Code {
  const once = (value: Code | Local): Code =>
    i32.add(i32.and(value, i32.const(0xffff)), i32.shrUnsigned(value, i32.const(16)));
  return once(once(local));
}

const exchanged = (local: Local): Code =>
  i32.or(i32.shl(i32.and(local, i32.const(0xff)), i32.const(8)), i32.shrUnsigned(local, i32.const(8)));
