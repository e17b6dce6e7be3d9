import assert from "node:assert/strict";
import { test } from "node:test";
import { HOUR, MINUTE, SECOND } from "../../src/kit/time.js";
import { numbered, numberIn, pairIn, peerOf, sessionOf, typesSent, World } from "./world.js";

const ping = (number: number) => numbered("10.0.0.1", "10.0.0.2", number);
const pong = (number: number) => numbered("10.0.0.2", "10.0.0.1", number);
const initiations = (world: World) => world.sent.filter(({ datagram }) => datagram[0] === 1);

test("three hours of traffic rekey every two minutes and lose nothing", () => {
  const world = new World();
  const { left, right } = pairIn(world);
  for (let i = 0; i < 10_800; i++) {
    world.send(left, ping(i));
    world.send(right, pong(i));
    world.run(SECOND);
  }
  assert.equal(right.delivered.length, 10_800);
  assert.equal(left.delivered.length, 10_800);
  const rekeys = initiations(world);
  // The session is 20 ms younger than the second it began in, so the packet of second 121 renews it.
  assert.equal(rekeys.length, 2 + Math.floor(10_799 / 121));
  // The first packets of both sides crossed, and with them the first two initiations.
  const gaps = rekeys.slice(2).map(({ at }, i) => at - (rekeys[i + 1]?.at ?? 0));
  assert(Math.min(...gaps) >= 120 * SECOND && Math.max(...gaps) <= 122 * SECOND);
});

test("traffic to the initiator alone rekeys as well, before the session ends", () => {
  const world = new World();
  const { left, right } = pairIn(world);
  world.send(left, ping(0));
  world.run(100);
  for (let i = 0; i < 1_800; i++) {
    world.send(right, pong(i));
    world.run(SECOND);
  }
  assert.equal(left.delivered.length, 1_800);
});

test("without an answer, initiations follow every five seconds and a bit, for ninety seconds", () => {
  const world = new World();
  world.passes = () => false;
  const { left } = pairIn(world);
  world.send(left, ping(1));
  world.run(10 * MINUTE);
  const tries = initiations(world);
  assert(tries.length >= 17 && tries.length <= 18, `${tries.length} tries`);
  const gaps = tries.slice(1).map(({ at }, i) => at - (tries[i]?.at ?? 0));
  assert(Math.min(...gaps) >= 5_000 && Math.max(...gaps) <= 5_333, `${gaps}`);
  assert(new Set(gaps).size > 3, "the pauses are jittered");
  assert((tries.at(-1)?.at ?? 0) - (tries[0]?.at ?? 0) <= 90 * SECOND);
  assert.equal(left.device.counters.stagedDropped, 1);
});

test("after giving up, a new packet starts over", () => {
  const world = new World();
  world.passes = () => false;
  const { left, right } = pairIn(world);
  world.send(left, ping(1));
  world.run(10 * MINUTE);
  world.passes = () => true;
  world.send(left, ping(2));
  world.run(SECOND);
  assert.deepEqual(right.delivered.map(numberIn), [2]);
});

test("whoever only receives says so after ten seconds, once", () => {
  const world = new World();
  const { left, right } = pairIn(world);
  world.send(left, ping(1));
  world.run(9 * SECOND);
  assert.deepEqual(typesSent(world, right), [2]);
  world.run(2 * SECOND);
  assert.deepEqual(typesSent(world, right), [2, 4]);
  assert.equal(world.sent.at(-1)?.datagram.length, 32);
  world.run(HOUR);
  assert.deepEqual(typesSent(world, right), [2, 4]);
  assert.deepEqual(typesSent(world, left), [1, 4]);
});

test("silence after sending starts a handshake after fifteen seconds", () => {
  const world = new World();
  const { left, right } = pairIn(world);
  world.send(left, ping(1));
  world.run(11 * SECOND);
  world.passes = (_, from) => from !== right;
  world.send(left, ping(2));
  const sentAt = world.now;
  world.run(20 * SECOND);
  const second = initiations(world)[1];
  assert(second !== undefined);
  assert(second.at - sentAt >= 15 * SECOND && second.at - sentAt <= 16 * SECOND, `${second.at - sentAt}`);
});

test("persistent keepalive connects without any packet and holds the pace", () => {
  const world = new World();
  const { left, right } = pairIn(world);
  world.configure(left, [peerOf(right, ["10.0.0.2/32"], { persistentKeepaliveSeconds: 25 })]);
  assert.deepEqual(typesSent(world, left), [1]);
  world.run(10 * MINUTE);
  const times = world.sent.filter(({ from }) => from === left.endpoint).map(({ at }) => at);
  const gaps = times.slice(1).map((at, i) => at - (times[i] ?? 0));
  assert(Math.max(...gaps) <= 25 * SECOND, `${gaps}`);
  assert((right.device.peers(world.now)[0]?.lastHandshakeAgeMs ?? Infinity) <= 150 * SECOND);
  world.configure(left, [peerOf(right, ["10.0.0.2/32"])]);
  const sofar = world.sent.length;
  world.run(10 * MINUTE);
  assert.equal(world.sent.length, sofar);
});

test("persistent keepalive brings the tunnel back after an hour of no network", () => {
  const world = new World();
  const { left, right } = pairIn(world);
  world.configure(left, [peerOf(right, ["10.0.0.2/32"], { persistentKeepaliveSeconds: 25 })]);
  world.run(MINUTE);
  world.passes = () => false;
  world.run(HOUR);
  world.passes = () => true;
  world.run(30 * SECOND);
  world.send(right, pong(1));
  world.run(SECOND);
  assert.equal(left.delivered.length, 1);
});

test("a session past three minutes neither sends nor receives", () => {
  const world = new World();
  const { left, right } = pairIn(world);
  world.send(left, ping(1));
  world.run(SECOND);
  world.passes = () => false;
  world.send(left, ping(2));
  const late = world.sent.at(-1)?.datagram ?? new Uint8Array();
  world.now += 180 * SECOND;
  right.device.receive(late, left.endpoint, world.now);
  assert.equal(right.device.counters.sessionExpired, 1);
  world.send(left, ping(3));
  assert.equal(world.sent.at(-1)?.datagram[0], 1);
});

test("nine minutes after the last session its keys are gone, and no timer is left", () => {
  const world = new World();
  const { left } = pairIn(world);
  world.send(left, ping(1));
  world.run(SECOND);
  const keypair = sessionOf(left, "10.0.0.2", world.now);
  assert(keypair !== undefined);
  world.run(530 * SECOND);
  assert(keypair.sendKey.some((byte) => byte !== 0));
  world.run(20 * SECOND);
  assert(keypair.sendKey.every((byte) => byte === 0));
  assert.equal(left.device.entry(keypair.localIndex)?.keypair, undefined);
  assert.equal(left.device.deadline, undefined);
});

for (const { name, high, low, sends } of [
  { name: "2^60 messages renew the session while it goes on", high: 2 ** 28, low: 0, sends: [4, 1] },
  { name: "2^60 - 2 messages do not", high: 2 ** 28 - 1, low: 0xfffffffe, sends: [4] },
  { name: "the last counter below 2^64 - 2^13 - 1 is used", high: 0xffffffff, low: 0xffffdffe, sends: [4, 1] },
  { name: "2^64 - 2^13 - 1 is not: a handshake comes first", high: 0xffffffff, low: 0xffffdfff, sends: [1] },
])
  test(name, () => {
    const world = new World();
    const { left, right } = pairIn(world);
    world.send(left, ping(1));
    world.run(9 * SECOND);
    const keypair = sessionOf(left, "10.0.0.2", world.now);
    assert(keypair !== undefined);
    keypair.counterHigh = high;
    keypair.counterLow = low;
    const before = typesSent(world, left).length;
    world.send(left, ping(2));
    assert.deepEqual(typesSent(world, left).slice(before), sends);
    world.run(SECOND);
    assert.deepEqual(right.delivered.map(numberIn), [1, 2]);
  });
