import assert from "node:assert/strict";
import { toHex } from "../../src/kit/bytes.js";
import { datagramKind } from "../../src/kit/datagramkind.js";
import { SECOND } from "../../src/kit/time.js";
import { readIpPacket } from "../../src/wireguard/ippacket.js";
import { decodeMessage, encodeMessage } from "../../src/wireguard/messages.js";
import { nodeAead } from "../../src/wireguard/transportaead.js";
import { numbered, type Party, packet, pairIn, sessionOf, World } from "../wireguard/world.js";
import { bytes, type Target } from "./harness.js";

/** WireGuard's decoders, and a device with a session: whatever comes, one counter says so and nothing else happens. */

/** The peer's addresses: 10.0.0.1 and fd00::1. */
const SOURCES = ["0a000001", "fd000000000000000000000000000001"];
const packets = [
  numbered("10.0.0.1", "10.0.0.2", 1),
  packet("fd00::1", "fd00::2", new Uint8Array(40)),
  packet("203.0.113.9", "10.0.0.2"),
];

/** Two devices with a session, and everything that went between them. */
function talked(): { world: World; left: Party; right: Party; datagrams: Uint8Array[] } {
  const world = new World(11);
  const { left, right } = pairIn(world);
  world.send(left, numbered("10.0.0.1", "10.0.0.2", 1));
  world.run(SECOND);
  return { world, left, right, datagrams: world.sent.map(({ datagram }) => datagram) };
}

const dropped = ({ device }: Party): number => Object.values(device.counters).reduce((sum, count) => sum + count, 0);

function datagramsTo(side: "left" | "right"): Target {
  const { world, [side]: party, datagrams } = talked();
  const from = party.device.peers(world.now)[0]?.endpoint ?? assert.fail("the peer was heard");
  const before = dropped(party);
  let given = 0;
  return bytes(`WireGuard datagram to the ${side === "left" ? "initiator" : "responder"}`, datagrams, (input) => {
    const effects = party.device.receive(input, from, world.now);
    given++;
    assert(
      effects.every((effect) => effect.kind === "send" && effect.datagram[0] === 3),
      "nothing but cookies",
    );
    assert.equal(dropped(party) - before, given, "each is counted once");
    assert((party.device.deadline ?? 0) > world.now, "the timers stand");
  });
}

/** What an authentic peer may put into a message. */
function insides(): Target {
  const { world, left, right } = talked();
  return bytes("inside of an authentic WireGuard message", packets, (input) => {
    const session = sessionOf(left, "10.0.0.2", world.now);
    assert(session !== undefined);
    const datagram = new Uint8Array(16 + input.length + 16);
    const view = new DataView(datagram.buffer);
    view.setUint32(0, 4, true);
    view.setUint32(4, session.remoteIndex, true);
    view.setUint32(8, session.counterLow, true);
    nodeAead.seal(session.sendKey, session.counterLow, input, datagram, 16);
    session.advance();
    for (const effect of right.device.receive(datagram, left.endpoint, world.now)) {
      assert(effect.kind === "deliver");
      const delivered = toHex(effect.packet);
      assert.equal(delivered, toHex(input.subarray(0, effect.packet.length)), "what was sent, less padding");
      const source = delivered.startsWith("4") ? delivered.slice(24, 32) : delivered.slice(16, 48);
      assert(SOURCES.includes(source), `from an address of the peer, not from ${source}`);
    }
  });
}

function packetsToSend(): Target {
  const { world, left } = talked();
  return bytes("packet to send through WireGuard", packets, (input) => {
    const before = dropped(left);
    const effects = left.device.send(input, world.now);
    const sent = effects.filter((effect) => effect.kind === "send" && effect.datagram[0] === 4);
    assert.equal(sent.length + dropped(left) - before, 1, "sent or counted");
    assert.equal(effects.length, sent.length);
  });
}

export function wireGuardTargets(): readonly Target[] {
  const { datagrams } = talked();
  return [
    bytes("WireGuard message", datagrams, (input) => {
      const message = decodeMessage(input);
      if (message === undefined) return;
      assert.equal(toHex(encodeMessage(message)), toHex(input), "the form is the only one");
      assert.equal(datagramKind(input), "wireguard");
    }),
    bytes("IP packet", packets, (input) => {
      const head = readIpPacket(input);
      if (head === undefined) return;
      const addressBytes = head.family === 4 ? 4 : 16;
      assert(head.lengthBytes <= input.length && head.destinationAt + addressBytes <= head.lengthBytes);
    }),
    datagramsTo("left"),
    datagramsTo("right"),
    insides(),
    packetsToSend(),
  ];
}
