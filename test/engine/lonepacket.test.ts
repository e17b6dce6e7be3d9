import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { after, before, beforeEach, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import type { Offload } from "../../src/engine/offloads.js";
import { chanceOf } from "../wireguard/world.js";
import { INSIDE, LoneWorld } from "./loneworld.js";
import { ipPacket, type Segment, slowSum } from "./packets.js";

/**
 * A packet that ends a rest, by both ways: through the accelerator's wait, and through the general way, which is all
 * there is without a C compiler. What comes out must be the same.
 */
const BUILT = existsSync(fileURLToPath(new URL("../../src/sys/accelerator.so", import.meta.url)));
const WAYS: Record<string, readonly Offload[]> = { "the accelerator": [], "no accelerator": ["accelerator"] };
const NO_HEADER = new Uint8Array(10);

const bytesOf = (length: number): Uint8Array => Uint8Array.from({ length }, (_, i) => (i * 7) & 255);
const udp = (change: Partial<Segment> = {}): Segment => ({
  from: INSIDE.theirs,
  to: INSIDE.ours,
  fromPort: 4_000,
  toPort: 4_001,
  payload: bytesOf(33),
  ...change,
});
const inward = (change: Partial<Segment> = {}): Uint8Array => ipPacket(udp(change));
const outward = (change: Partial<Segment> = {}): Uint8Array =>
  ipPacket(udp({ from: INSIDE.ours, to: INSIDE.theirs, ...change }));
const withHeader = (packet: Uint8Array): Uint8Array => Uint8Array.of(...NO_HEADER, ...packet);
/** The sum that the kernel leaves where a UDP checksum is yet to be made (RFC 768). */
function pseudoHeaderSum(packet: Uint8Array): Uint8Array {
  const length = packet.length - 20;
  const sum = slowSum(Uint8Array.of(...packet.subarray(12, 20), 0, 17, length >> 8, length & 255));
  return Uint8Array.of(sum >> 8, sum & 255);
}
const SIX = { from: INSIDE.theirs6, to: INSIDE.ours6 };

for (const [name, without] of Object.entries(WAYS))
  describe(`after a rest, with ${name}`, {
    skip: !BUILT && without.length === 0 && "built without a C compiler",
  }, () => {
    const alone = without.length === 0;
    let world: LoneWorld;
    before(() => {
      world = new LoneWorld(without);
      world.arrives(world.sealed(inward()));
    });
    after(() => world?.close());
    beforeEach(() => {
      // One like those that follow, so that they are like the last.
      world.arrives(world.sealed(inward()));
      world.arrives(world.sealed(inward()));
      world.written();
      world.sent();
    });
    /** Whether the accelerator did it all in the wait. */
    const tookAlone = (took: boolean): void => {
      if (alone) assert.deepEqual(world.calls.length === 0, took, `calls of the general way: ${world.calls}`);
    };

    for (const payload of [0, 1, 15, 500, 1_392])
      test(`a packet of ${payload} bytes comes in whole, and its bytes are counted`, () => {
        const packet = inward({ payload: bytesOf(payload) });
        const datagram = world.sealed(packet);
        const { receivedBytes } = world.peer;
        world.arrives(datagram);
        assert.deepEqual(world.written(), [withHeader(packet)]);
        assert.equal(world.peer.receivedBytes - receivedBytes, datagram.length);
        tookAlone(true);
      });

    test("a packet goes out padded, under a counter of its own, and its bytes are counted", () => {
      const counters = [0, 1, 15, 500, 1_392].map((payload) => {
        const packet = outward({ payload: bytesOf(payload) });
        const { sentBytes } = world.peer;
        world.leaves(packet);
        tookAlone(true);
        const [datagram, ...more] = world.sent();
        assert.ok(datagram);
        assert.equal(more.length, 0);
        assert.equal(datagram.length, 32 + Math.min(1_420, Math.ceil(packet.length / 16) * 16));
        assert.equal(world.peer.sentBytes - sentBytes, datagram.length);
        assert.deepEqual(world.opened([datagram]), [packet]);
        return new DataView(datagram.buffer).getUint32(8, true);
      });
      assert.deepEqual(
        counters.map((counter) => counter - (counters[0] ?? 0)),
        [0, 1, 2, 3, 4],
      );
    });

    test("IPv6 in the tunnel comes in and goes out", () => {
      world.arrives(world.sealed(inward(SIX)));
      world.written();
      const packet = inward(SIX);
      world.arrives(world.sealed(packet));
      assert.deepEqual(world.written(), [withHeader(packet)]);
      tookAlone(true);
      const answer = outward({ from: INSIDE.ours6, to: INSIDE.theirs6 });
      world.leaves(answer);
      tookAlone(true);
      assert.deepEqual(world.opened(world.sent()), [answer]);
    });

    test("a datagram that came before is not taken again, nor one that was sent before it", () => {
      const [first, second] = [world.sealed(inward({ fromPort: 1 })), world.sealed(inward({ fromPort: 2 }))];
      world.arrives(second);
      world.arrives(first);
      assert.equal(world.written().length, 2, "late is no replay");
      const { receivedBytes } = world.peer;
      for (const datagram of [first, second]) world.arrives(datagram);
      assert.deepEqual(world.written(), []);
      assert.equal(world.peer.receivedBytes, receivedBytes);
    });

    test("a forgery is nothing, whichever byte of it was changed; the datagram itself is taken afterwards", () => {
      const packet = inward();
      const datagram = world.sealed(packet);
      for (const at of [0, 4, 8, 15, 16, 40, datagram.length - 1]) {
        const forged = datagram.slice();
        forged[at] = (forged[at] ?? 0) ^ 1;
        world.arrives(forged);
        assert.deepEqual(world.written(), [], `byte ${at}`);
      }
      world.arrives(datagram);
      assert.deepEqual(world.written(), [withHeader(packet)]);
    });

    test("a packet from an address that is not the peer's is authentic and not delivered", () => {
      const { receivedBytes } = world.peer;
      const datagram = world.sealed(inward({ from: "100.64.7.9" }));
      world.arrives(datagram);
      assert.deepEqual(world.written(), []);
      assert.equal(world.peer.receivedBytes - receivedBytes, datagram.length);
    });

    test("a packet that says it is longer than it is, or no IP packet, is authentic and not delivered", () => {
      const { receivedBytes } = world.peer;
      const long = inward();
      long[2] = 0x7f;
      const strange = inward();
      strange[0] = 0x25;
      const datagrams = [world.sealedAsIs(long), world.sealedAsIs(strange), world.sealedAsIs(new Uint8Array(0))];
      for (const datagram of datagrams) world.arrives(datagram);
      assert.deepEqual(world.written(), []);
      const bytes = datagrams.reduce((sum, { length }) => sum + length, 0);
      assert.equal(world.peer.receivedBytes - receivedBytes, bytes);
    });

    test("the answer goes to where the peer has roamed to", () => {
      const packet = inward({ fromPort: 77 });
      world.arrives(world.sealed(packet), world.sockets[1]);
      assert.deepEqual(world.written(), [withHeader(packet)]);
      tookAlone(false);
      world.leaves(outward());
      assert.deepEqual(world.opened(world.sent(world.sockets[1])), [outward()]);
      assert.deepEqual(world.sent(), []);
    });

    test("what the kernel wants done to a packet is done: a checksum, a mark of congestion, several segments", () => {
      // The last one's checksum would be zero, and is all ones.
      const zeros = outward({ payload: new Uint8Array(2) });
      const payloads = [0, 1, 2, 33, 1_392].map(bytesOf).concat(zeros.slice(26, 28));
      for (const payload of payloads) {
        const packet = outward({ payload });
        // The pseudo-header's sum stands where the checksum belongs; here the kernel is to sum from byte 20 on.
        const unsummed = packet.slice();
        unsummed.set(pseudoHeaderSum(packet), 26);
        world.leaves(unsummed, Uint8Array.of(1, 0, 0, 0, 0, 0, 20, 0, 6, 0));
        tookAlone(true);
        assert.deepEqual(world.opened(world.sent()), [packet]);
      }
      const marked = outward({ ecn: 1 });
      world.leaves(marked);
      tookAlone(false);
      assert.deepEqual(world.opened(world.sent()), [marked]);
      const tcp = { sequence: 1_000, flags: 0x10 };
      const piece = outward({ payload: bytesOf(150), tcp });
      world.leaves(piece, Uint8Array.of(1, 1, 40, 0, 100, 0, 20, 0, 16, 0));
      const parts = world.opened(world.sent());
      assert.deepEqual(
        parts.map(({ length }) => length),
        [140, 90],
      );
    });

    test("a packet too long for a datagram is refused and counted, and its counter is never another's", () => {
      const refused = world.plane.state().unsent?.refused ?? 0;
      world.leaves(outward());
      world.leaves(outward({ payload: bytesOf(65_480) }));
      assert.equal(world.plane.state().unsent?.refused, refused + 1);
      world.leaves(outward());
      const counters = world.sent().map((datagram) => new DataView(datagram.buffer).getUint32(8, true));
      assert.equal(counters.length, 2);
      assert.ok((counters[1] ?? 0) > (counters[0] ?? 0) + 1, counters.join(" "));
    });

    test("a packet to nobody's address goes nowhere, and the next to the peer does", () => {
      world.leaves(outward({ to: "100.64.7.9" }));
      assert.deepEqual(world.sent(), []);
      world.leaves(outward());
      assert.deepEqual(world.opened(world.sent()), [outward()]);
    });

    test("an address that is the peer's no longer is refused at once", () => {
      world.set([`${INSIDE.theirs6}/128`]);
      world.arrives(world.sealed(inward()));
      assert.deepEqual(world.written(), []);
      world.leaves(outward());
      assert.deepEqual(world.sent(), []);
      world.set();
    });

    test("a session past its age neither takes nor sends", () => {
      const datagram = world.sealed(inward());
      world.ahead += 170_000;
      world.arrives(world.sealedAsIs(inward()));
      assert.equal(world.written().length, 1, "young enough");
      world.ahead += 10_000;
      world.arrives(datagram);
      assert.deepEqual(world.written(), []);
    });
  });

const ROUNDS = 150;

test("whatever a peer seals and the machine hands over, both ways make the same of it", {
  skip: !BUILT && "built without a C compiler",
}, async () => {
  const chance = chanceOf(20);
  const below = (most: number): number => Math.floor(chance() * most);
  /** Some bytes of the first ones changed, and another length: headers that lie. */
  const spoiled = (packet: Uint8Array, first: number): Uint8Array => {
    const bytes = new Uint8Array(chance() < 0.3 ? below(packet.length + 20) : packet.length);
    bytes.set(packet.subarray(0, bytes.length));
    for (let i = below(4); i > 0; i--) bytes[below(Math.min(first, bytes.length))] = below(256);
    return bytes;
  };
  const six = { from: INSIDE.ours6, to: INSIDE.theirs6 };
  const steps = Array.from({ length: ROUNDS }, () => ({
    inward: spoiled(inward(chance() < 0.3 ? SIX : {}), 48),
    outward: spoiled(outward(chance() < 0.3 ? six : {}), 44),
    header:
      chance() < 0.5 ? NO_HEADER : Uint8Array.of(below(4), below(8), 0, 0, below(99), 0, below(60), 0, below(20), 0),
    plain: chance() < 0.5,
  }));
  const outcome = async (without: readonly Offload[]): Promise<unknown[]> => {
    const world = new LoneWorld(without);
    try {
      world.arrives(world.sealed(inward()));
      return steps.map((step) => {
        if (step.plain) world.arrives(world.sealed(inward()));
        world.arrives(world.sealedAsIs(step.inward));
        world.leaves(step.outward, step.header);
        const { receivedBytes, sentBytes } = world.peer;
        return { written: world.written(), opened: world.opened(world.sent()), receivedBytes, sentBytes };
      });
    } finally {
      await world.close();
    }
  };
  const [one, other] = [await outcome([]), await outcome(["accelerator"])];
  for (const [i, made] of one.entries()) assert.deepEqual(made, other[i], `step ${i}: ${JSON.stringify(steps[i])}`);
});
