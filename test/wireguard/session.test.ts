import assert from "node:assert/strict";
import { test } from "node:test";
import { parseEndpoint } from "../../src/kit/endpoint.js";
import { MINUTE, SECOND } from "../../src/kit/time.js";
import { STAGED_PACKETS_MAX } from "../../src/wireguard/constants.js";
import { numbered, numberIn, packet, pairIn, peerOf, presharedKeyOf, sessionOf, typesSent, World } from "./world.js";

const ping = (number: number) => numbered("10.0.0.1", "10.0.0.2", number);
const pong = (number: number) => numbered("10.0.0.2", "10.0.0.1", number);

test("the first packet makes a handshake, waits for it, and arrives unchanged", () => {
  const world = new World();
  const { left, right } = pairIn(world);
  world.send(left, ping(1));
  assert.deepEqual(typesSent(world, left), [1]);
  world.run(SECOND);
  assert.deepEqual(right.delivered, [ping(1)]);
  assert.deepEqual(typesSent(world, right), [2]);
  world.send(right, pong(2));
  world.run(SECOND);
  assert.deepEqual(left.delivered, [pong(2)]);
  assert.equal(left.device.peers(world.now)[0]?.lastHandshakeAgeMs, 2 * SECOND - 20);
});

test("IPv6 packets travel as well, and padding is gone on arrival", () => {
  const world = new World();
  const { left, right } = pairIn(world);
  const odd = packet("fd00::1", "fd00::2", new Uint8Array(13).fill(7));
  world.send(left, odd);
  world.run(SECOND);
  assert.deepEqual(right.delivered, [odd]);
  const transports = world.sent.filter(({ datagram }) => datagram[0] === 4);
  assert(transports.every(({ datagram }) => datagram.length % 16 === 0));
});

test("padding stops at the tunnel's MTU", () => {
  const world = new World();
  const { left } = pairIn(world);
  world.send(left, packet("10.0.0.1", "10.0.0.2", new Uint8Array(1400)));
  world.run(SECOND);
  assert.equal(Math.max(...world.sent.map(({ datagram }) => datagram.length)), 1420 + 32);
});

test("with the same preshared key the tunnel works, with different ones it does not", () => {
  const world = new World();
  const presharedKey = presharedKeyOf(5);
  const { left, right } = pairIn(world, { presharedKey });
  world.send(left, ping(1));
  world.run(SECOND);
  assert.equal(right.delivered.length, 1);

  const other = new World();
  const odd = pairIn(other, { presharedKey });
  other.configure(odd.left, [peerOf(odd.right, ["10.0.0.2/32"], { presharedKey: presharedKeyOf(6) })]);
  other.send(odd.left, ping(1));
  other.run(20 * SECOND);
  assert.equal(odd.right.delivered.length, 0);
  assert(odd.left.device.counters.handshakesInvalid > 0);
});

test("both sides begin at once and both get through", () => {
  const world = new World();
  const { left, right } = pairIn(world);
  world.send(left, ping(1));
  world.send(right, pong(2));
  world.run(SECOND);
  assert.deepEqual(right.delivered, [ping(1)]);
  assert.deepEqual(left.delivered, [pong(2)]);
});

test("of more packets than can wait, the oldest are dropped and the rest arrive in order", () => {
  const world = new World();
  const { left, right } = pairIn(world);
  for (let i = 0; i < STAGED_PACKETS_MAX + 10; i++) world.send(left, ping(i));
  world.run(SECOND);
  assert.equal(left.device.counters.stagedDropped, 10);
  assert.deepEqual(
    right.delivered.map(numberIn),
    Array.from({ length: STAGED_PACKETS_MAX }, (_, i) => i + 10),
  );
});

for (const seed of [1, 2, 3, 4, 5])
  test(`in foul weather nothing arrives twice or changed, and most arrives (seed ${seed})`, () => {
    const world = new World(seed, { loss: 0.1, duplicates: 0.3, delayMs: [5, 250] });
    const { left, right } = pairIn(world);
    for (let i = 0; i < 3_000; i++) {
      world.send(left, ping(i));
      if (i % 3 === 0) world.send(right, pong(i));
      world.run(100);
    }
    world.run(MINUTE);
    const arrived = right.delivered.map(numberIn);
    assert.equal(new Set(arrived).size, arrived.length);
    assert(arrived.length > 2_400, `${arrived.length} of 3000`);
    for (const bytes of right.delivered) assert.deepEqual(bytes, ping(numberIn(bytes)));
    assert(right.device.counters.replayed > 500);
  });

test("a recorded transport message is taken once", () => {
  const world = new World();
  const { left, right } = pairIn(world);
  world.send(left, ping(1));
  world.run(SECOND);
  const recorded = world.sent.filter(({ datagram }) => datagram[0] === 4).map(({ datagram }) => datagram);
  for (const datagram of recorded) world.carry(right, right.device.receive(datagram, left.endpoint, world.now));
  assert.equal(right.delivered.length, 1);
  assert.equal(right.device.counters.replayed, recorded.length);
});

test("a recorded initiation is not answered again, and the session lives on", () => {
  const world = new World();
  const { left, right } = pairIn(world);
  world.send(left, ping(1));
  world.run(SECOND);
  const recorded = world.sent[0]?.datagram ?? new Uint8Array();
  assert.deepEqual(right.device.receive(recorded, parseEndpoint("203.0.113.66:1"), world.now), []);
  assert.equal(right.device.counters.handshakesReplayed, 1);
  world.send(right, pong(2));
  world.run(SECOND);
  assert.equal(left.delivered.length, 1);
});

test("whoever moves is found again by the first authentic message, and not by a forged one", () => {
  const world = new World();
  const { left, right } = pairIn(world);
  world.send(left, ping(1));
  world.run(SECOND);
  const thief = parseEndpoint("203.0.113.66:1");
  const last = world.sent.at(-1)?.datagram ?? new Uint8Array();
  right.device.receive(last.with(-1, (last.at(-1) ?? 0) ^ 1), thief, world.now);
  right.device.receive(last, thief, world.now);
  assert.deepEqual(right.device.peers(world.now)[0]?.endpoint, left.endpoint);
  left.endpoint = parseEndpoint("[2001:db8::5]:4444");
  world.send(left, ping(2));
  world.run(SECOND);
  world.send(right, pong(3));
  world.run(SECOND);
  assert.deepEqual(right.device.peers(world.now)[0]?.endpoint, left.endpoint);
  assert.equal(left.delivered.length, 1);
});

test("an equal configuration neither sends anything nor moves a roamed peer back", () => {
  const world = new World();
  const { left, right } = pairIn(world);
  world.send(left, ping(1));
  world.run(SECOND);
  const moved = parseEndpoint("203.0.113.5:9");
  left.endpoint = moved;
  world.send(left, ping(2));
  world.run(SECOND);
  const peers = [{ ...peerOf(left, ["10.0.0.1/32"]), endpoint: parseEndpoint("192.0.2.1:51820") }];
  assert.deepEqual(right.device.configure({ privateKey: right.privateKey, peers, mtu: 1420 }, world.now), []);
  assert.deepEqual(right.device.peers(world.now)[0]?.endpoint, moved);
  world.send(right, pong(3));
  world.run(SECOND);
  assert.equal(left.delivered.length, 1);
});

test("a newly wanted endpoint is tried at once while a handshake waits", () => {
  const world = new World();
  const { left, right } = pairIn(world);
  world.configure(left, [peerOf(right, ["10.0.0.2/32"], { endpoint: parseEndpoint("203.0.113.1:1") })]);
  world.send(left, ping(1));
  world.run(SECOND);
  world.configure(left, [peerOf(right, ["10.0.0.2/32"])]);
  world.run(100);
  assert.deepEqual(right.delivered, [ping(1)]);
});

test("a peer that moves while its answer is on the way is sent the same initiation again, and the answer counts", () => {
  const world = new World();
  const { left, right } = pairIn(world);
  world.send(left, ping(1));
  world.run(15); // of the 20 of a round trip
  world.carry(left, left.device.point(right.publicKey, parseEndpoint("203.0.113.1:1"), world.now));
  world.run(100);
  assert.deepEqual(right.delivered, [ping(1)]);
  const initiations = world.sent.filter(({ datagram }) => datagram[0] === 1);
  assert.deepEqual(initiations[1]?.datagram, initiations[0]?.datagram);
});

test("where it was lost, the same one is the first to arrive", () => {
  const world = new World();
  const { left, right } = pairIn(world);
  world.configure(left, [peerOf(right, ["10.0.0.2/32"], { endpoint: parseEndpoint("203.0.113.1:1") })]);
  world.send(left, ping(1));
  world.run(30);
  world.carry(left, left.device.point(right.publicKey, right.endpoint, world.now));
  world.run(100);
  assert.deepEqual(right.delivered, [ping(1)]);
});

test("and where its answer was lost, a new one follows after a second in place of five", () => {
  const world = new World();
  const { left, right } = pairIn(world);
  world.passes = (datagram) => datagram[0] !== 2;
  world.send(left, ping(1));
  world.run(30);
  world.configure(left, [peerOf(right, ["10.0.0.2/32"], { endpoint: parseEndpoint("203.0.113.1:1") })]);
  world.carry(left, left.device.point(right.publicKey, right.endpoint, world.now));
  world.passes = () => true;
  world.run(900);
  assert.deepEqual(right.delivered, []);
  world.run(500);
  assert.deepEqual(right.delivered, [ping(1)]);
});

test("a packet for a peer without endpoint waits until one is configured", () => {
  const world = new World();
  const { left, right } = pairIn(world);
  const { endpoint: _, ...nowhere } = peerOf(right, ["10.0.0.2/32"]);
  world.configure(left, []);
  world.configure(left, [nowhere]);
  world.send(left, ping(1));
  world.run(7 * SECOND);
  assert.equal(world.sent.length, 0);
  world.configure(left, [peerOf(right, ["10.0.0.2/32"])]);
  world.run(100);
  assert.deepEqual(right.delivered, [ping(1)]);
});

test("a moved allowed-ip goes to its new peer and is refused from the old one", () => {
  const world = new World();
  const { left, right } = pairIn(world);
  const third = world.party("third", "192.0.2.3:51820");
  world.configure(third, [peerOf(right, ["10.0.0.2/32"])]);
  world.send(left, ping(1));
  world.run(SECOND);
  world.configure(right, [peerOf(left, ["10.0.0.9/32"]), peerOf(third, ["10.0.0.1/32"])]);
  world.send(left, ping(2));
  world.run(SECOND);
  assert.equal(right.device.counters.sourceNotAllowed, 1);
  assert.equal(right.delivered.length, 1);
  world.send(right, pong(3));
  world.run(SECOND);
  assert.equal(left.delivered.length, 0);
  assert.deepEqual(third.delivered, [pong(3)]);
});

test("a removed peer is cut off at once, its keys zeroed and its indices free", () => {
  const world = new World();
  const { left, right } = pairIn(world);
  world.send(left, ping(1));
  world.run(SECOND);
  const keypair = sessionOf(right, "10.0.0.1", world.now);
  assert(keypair !== undefined);
  assert.equal(right.device.entry(keypair.localIndex)?.keypair, keypair);
  world.configure(right, []);
  assert(keypair.sendKey.every((byte) => byte === 0) && keypair.receiveKey.every((byte) => byte === 0));
  assert.equal(right.device.entry(keypair.localIndex)?.keypair, undefined);
  assert.equal(right.device.deadline, undefined);
  world.send(left, ping(2));
  world.send(right, pong(3));
  world.run(30 * SECOND);
  assert.equal(right.delivered.length, 1);
  assert.equal(left.delivered.length, 0);
  assert.equal(right.device.counters.noPeer, 1);
  assert(right.device.counters.peerUnknown > 0, "its new initiation is unknown");
});

test("a new private key ends every session and begins anew", () => {
  const world = new World();
  const { left, right } = pairIn(world);
  world.send(left, ping(1));
  world.run(SECOND);
  world.configure({ ...left, privateKey: right.privateKey }, [peerOf(left, ["10.0.0.2/32"])]);
  assert.equal(sessionOf(left, "10.0.0.2", world.now), undefined);
  world.configure(left, [peerOf(right, ["10.0.0.2/32"])]);
  world.run(5 * SECOND);
  world.send(left, ping(2));
  world.run(6 * SECOND);
  assert.equal(right.delivered.length, 2);
});

test("a peer that is the device itself is passed over", () => {
  const world = new World();
  const { left } = pairIn(world);
  world.configure(left, [peerOf(left, ["10.0.0.0/8"], { persistentKeepaliveSeconds: 25 })]);
  assert.deepEqual(left.device.peers(world.now), []);
});
