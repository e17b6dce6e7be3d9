import assert from "node:assert/strict";
import { test } from "node:test";
import { plainSum } from "../../src/engine/checksums.js";
import { Cutter } from "../../src/engine/cutter.js";
import { ecnOf, markInner } from "../../src/engine/ecn.js";
import { JOINER_ARENA_BYTES, Joiner } from "../../src/engine/joiner.js";
import { VNET_HEADER_BYTES } from "../../src/engine/vnetheader.js";
import { Arena } from "../../src/sys/arena.js";
import { loadLibc } from "../../src/sys/libc.js";
import { ipPacket, type Segment, slowSum } from "./packets.js";

const ACK = 0x10;
const PSH = 0x08;
const FIN = 0x01;
const PLACE_BYTES = 2_048;
const PLACES = 200;

/** A joiner whose TUN device is a list of what was written, each cut again into the packets it stands for. */
function bench() {
  const libc = loadLibc();
  const arena = new Arena(libc, JOINER_ARENA_BYTES + PLACES * PLACE_BYTES + 3 * 65_600 + 1_024);
  const sum = plainSum(arena.view);
  const pieces: Uint8Array[] = [];
  const device = {
    write: (_fd: number, at: number, length: number) => {
      const from = at - arena.base;
      pieces.push(arena.bytes.slice(from, from + length));
      return length;
    },
    writev: (_fd: number, vectors: number, count: number) => {
      const parts: number[] = [];
      for (let i = 0; i < count; i++) {
        const vector = vectors - arena.base + 16 * i;
        const from = Number(arena.view.getBigUint64(vector, true)) - arena.base;
        parts.push(...arena.bytes.subarray(from, from + arena.view.getUint32(vector + 8, true)));
      }
      pieces.push(Uint8Array.from(parts));
      return parts.length;
    },
  };
  const joiner = new Joiner(device, arena, sum);
  joiner.fd = 1;
  joiner.tso = true;
  joiner.uso = true;
  const cutter = new Cutter(arena, sum);
  const places = arena.take(PLACES * PLACE_BYTES);
  const pieceAt = arena.take(65_600);
  const outAt = arena.take(65_600);
  return {
    join(packets: readonly Uint8Array[]): void {
      for (const [i, packet] of packets.entries()) {
        const at = places + i * PLACE_BYTES + 64;
        arena.bytes.set(packet, at);
        joiner.add(at, packet.length);
      }
      joiner.flush();
    },
    pieces,
    cut(piece: Uint8Array): Uint8Array[] {
      arena.bytes.set(piece, pieceAt);
      assert.ok(cutter.take(pieceAt, pieceAt + VNET_HEADER_BYTES, piece.length - VNET_HEADER_BYTES));
      return Array.from({ length: cutter.count }, (_, i) => {
        const length = cutter.write(i, outAt);
        assert.ok(length <= cutter.bytesMax);
        return arena.bytes.slice(outAt, outAt + length);
      });
    },
    take: (piece: Uint8Array): boolean => {
      arena.bytes.set(piece, pieceAt);
      return cutter.take(pieceAt, pieceAt + VNET_HEADER_BYTES, piece.length - VNET_HEADER_BYTES);
    },
  };
}

const payload = (length: number, seed = 1) => Uint8Array.from({ length }, (_, i) => (i * 7 + seed * 31) & 255);
const four = { from: "198.51.100.7", to: "100.64.0.2", fromPort: 443, toPort: 50_000 };
const six = { from: "2001:db8::7", to: "fd7e:7::2", fromPort: 443, toPort: 50_000 };
const stamps = Uint8Array.of(1, 1, 8, 10, 0, 0, 1, 2, 0, 0, 3, 4);

/** `count` segments of one flow that follow each other; the last `tail` bytes long. */
function stream(ends: typeof four, count: number, each: number, tail: number, options?: Uint8Array): Uint8Array[] {
  return Array.from({ length: count }, (_, i) => {
    const last = i === count - 1;
    return ipPacket({
      ...ends,
      payload: payload(last ? tail : each, i),
      tcp: {
        sequence: (0xffff_f000 + i * each) >>> 0,
        flags: last ? ACK | PSH : ACK,
        ...(options === undefined ? {} : { options }),
      },
      identification: 500 + i,
    });
  });
}

for (const [name, ends] of Object.entries({ IPv4: four, IPv6: six }))
  for (const [how, options] of [
    ["without options", undefined],
    ["with timestamps", stamps],
  ] as const)
    test(`TCP over ${name} ${how} is one piece, and cut again it is the same packets`, () => {
      const { join, pieces, cut } = bench();
      const packets = stream(ends, 40, 1_240, 777, options);
      join(packets);
      assert.equal(pieces.length, 1);
      const [piece] = pieces;
      assert.ok(piece !== undefined);
      assert.deepEqual(cut(piece), packets);
    });

for (const [name, ends] of Object.entries({ IPv4: four, IPv6: six }))
  test(`UDP over ${name} of equal size is one piece, and cut again it is the same packets`, () => {
    const { join, pieces, cut } = bench();
    const packets = Array.from({ length: 30 }, (_, i) =>
      ipPacket({ ...ends, payload: payload(i === 29 ? 5 : 1_200, i), identification: 9 + i }),
    );
    join(packets);
    assert.equal(pieces.length, 1);
    const [piece] = pieces;
    assert.ok(piece !== undefined);
    assert.deepEqual(cut(piece), packets);
  });

test("a wrong checksum never joins, and what it had would follow stays behind it", () => {
  const { join, pieces, cut } = bench();
  const packets = stream(four, 5, 1_000, 1_000);
  const [, , broken] = packets;
  assert.ok(broken !== undefined);
  broken[100] = (broken[100] ?? 0) ^ 1;
  join(packets);
  assert.equal(pieces.length, 3);
  assert.deepEqual(pieces.flatMap(cut), packets);
});

test("two flows that alternate are two pieces", () => {
  const { join, pieces } = bench();
  const [one, two] = [stream(four, 10, 1_000, 1_000), stream({ ...four, toPort: 50_001 }, 10, 1_000, 1_000)];
  join(one.flatMap((packet, i) => [packet, two[i] ?? packet]));
  assert.equal(pieces.length, 2);
});

const APART: Record<string, (segment: Segment) => Segment> = {
  "a gap in the sequence": (s) => ({ ...s, tcp: { sequence: 99, flags: ACK } }),
  "another flag": (s) => ({ ...s, tcp: { sequence: 2_000, flags: ACK | FIN } }),
  "a longer payload": (s) => ({ ...s, payload: payload(1_001) }),
  "an ECN mark": (s) => ({ ...s, ecn: 3 }),
  "other options": (s) => ({ ...s, tcp: { sequence: 2_000, flags: ACK, options: stamps } }),
};
for (const [name, change] of Object.entries(APART))
  test(`${name} does not join`, () => {
    const { join, pieces, cut } = bench();
    const segment = (sequence: number): Segment => ({
      ...four,
      payload: payload(1_000),
      tcp: { sequence, flags: ACK },
    });
    const packets = [ipPacket(segment(1_000)), ipPacket(change(segment(2_000)))];
    join(packets);
    assert.equal(pieces.length, 2);
    assert.deepEqual(pieces.flatMap(cut), packets);
  });

test("whatever the order of flows, sizes and kinds, every flow's packets arrive unchanged and in order", () => {
  let state = 42;
  const random = (below: number): number => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return (state >>> 8) % below;
  };
  for (let round = 0; round < 30; round++) {
    const sequences = new Map<number, number>();
    const packets = Array.from({ length: PLACES }, (_, i) => {
      const flow = random(12);
      const ends = { ...(flow % 2 === 0 ? four : six), toPort: 40_000 + flow };
      const size = [0, 1, 600, 1_240][random(4)] ?? 0;
      const sequence = sequences.get(flow) ?? 1;
      sequences.set(flow, sequence + size);
      const flags = random(10) === 0 ? ACK | PSH : ACK;
      return ipPacket({
        ...ends,
        payload: payload(size, i),
        ...(flow < 8 ? { tcp: { sequence, flags } } : {}),
        identification: i,
      });
    });
    const { join, pieces, cut } = bench();
    join(packets);
    const flowOf = (packet: Uint8Array): string => {
      const ports = (packet[0] ?? 0) >> 4 === 6 ? 40 : 20;
      return packet.subarray(ports, ports + 4).join();
    };
    // What is cut again counts its identifications on: they say nothing without fragments.
    const plain = (packet: Uint8Array): string => {
      const copy = packet.slice();
      if (copy[0] === 0x45) copy.fill(0, 4, 6).fill(0, 10, 12);
      return copy.join();
    };
    const got = pieces.flatMap(cut);
    assert.equal(got.length, packets.length);
    for (const flow of new Set(packets.map(flowOf)))
      assert.deepEqual(
        got.filter((packet) => flowOf(packet) === flow).map(plain),
        packets.filter((packet) => flowOf(packet) === flow).map(plain),
      );
  }
});

test("a header that does not fit its packet is refused, never cut", () => {
  const { take, join, pieces } = bench();
  join(stream(four, 4, 1_000, 1_000));
  const [piece] = pieces;
  assert.ok(piece !== undefined && take(piece));
  const broken = (at: number, value: number): Uint8Array => {
    const copy = piece.slice();
    copy[at] = value;
    return copy;
  };
  assert.equal(take(broken(0, 0)), false, "pieces need a checksum");
  assert.equal(take(broken(1, 3)), false, "a kind of piece that is none of ours");
  assert.equal(take(broken(1, 4)), false, "IPv6 segments in an IPv4 packet");
  assert.equal(take(broken(4, 0).fill(0, 4, 6)), false, "segments of nothing");
  assert.equal(take(piece.slice(0, VNET_HEADER_BYTES + 30)), false, "headers beyond the end");
});

test("a congestion mark reaches an inner packet that understands it, and its checksum stays right", () => {
  for (const ends of [four, six])
    for (const ecn of [0, 1, 2, 3]) {
      const packet = ipPacket({ ...ends, payload: payload(10), ecn });
      assert.equal(ecnOf(packet, 0), ecn);
      const view = new DataView(packet.buffer);
      markInner(view, 0, 0x88 | 2);
      assert.equal(ecnOf(packet, 0), ecn, "the outer one was not marked");
      markInner(view, 0, 3);
      assert.equal(ecnOf(packet, 0), ecn === 0 ? 0 : 3);
      if (ends === four) assert.equal(slowSum(packet.subarray(0, 20)), 0xffff);
    }
});
