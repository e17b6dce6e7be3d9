import assert from "node:assert/strict";
import { test } from "node:test";
import { parseEndpoint } from "../../src/kit/endpoint.js";
import { MINUTE, SECOND } from "../../src/kit/time.js";
import { CookieJar, CookieJudge } from "../../src/wireguard/cookie.js";
import {
  bytesOf,
  chanceOf,
  INSTANT,
  numbered,
  type Party,
  pairIn,
  peerOf,
  sessionOf,
  typesSent,
  World,
} from "./world.js";

/** The paper's limits to the millisecond and the message (§6.1 to §6.5), where nothing takes time but time. */
const ping = numbered("10.0.0.1", "10.0.0.2", 1);
const pong = numbered("10.0.0.2", "10.0.0.1", 2);

type Pair = { readonly world: World; readonly left: Party; readonly right: Party; readonly madeAt: number };

/** A session that `left` initiated, made at `madeAt` for both. */
function connected(jitterMs = 0): Pair {
  const world = new World(1, INSTANT);
  world.jitterMs = jitterMs;
  const { left, right } = pairIn(world);
  const madeAt = world.now;
  world.send(left, ping);
  world.run(0);
  assert.equal(right.delivered.length, 1);
  return { world, left, right, madeAt };
}

/** What the party sends while `act` runs and until all of it has arrived; nobody answers. */
function sentDuring({ world }: Pair, party: Party, act: () => void): number[] {
  const before = typesSent(world, party).length;
  world.passes = () => false;
  act();
  return typesSent(world, party).slice(before);
}

/** Ages the session to `age` without any timer having run on the way. */
function aged(age: number): Pair {
  const pair = connected();
  pair.world.now = pair.madeAt + age;
  return pair;
}

for (const { name, age, who, types } of [
  { name: "the initiator does not renew a session of 119.999 s", age: 119_999, who: "left", types: [4] },
  { name: "the initiator renews it at 120 s, and sends with it still", age: 120_000, who: "left", types: [4, 1] },
  { name: "the responder leaves that to the initiator", age: 120_000, who: "right", types: [4] },
  { name: "the last message goes out at 179.999 s", age: 179_999, who: "right", types: [4] },
  { name: "at 180 s the initiator sends nothing before a new handshake", age: 180_000, who: "left", types: [1] },
  { name: "at 180 s nor does the responder", age: 180_000, who: "right", types: [1] },
] as const)
  test(name, () => {
    const pair = aged(age);
    const { world } = pair;
    const sent = sentDuring(pair, pair[who], () => world.send(pair[who], who === "left" ? ping : pong));
    assert.deepEqual(sent, types);
  });

for (const { age, taken } of [
  { age: 179_999, taken: 1 },
  { age: 180_000, taken: 0 },
])
  test(`a message that arrives ${age} ms into its session is ${taken === 1 ? "taken" : "refused"}`, () => {
    const pair = aged(179_999);
    const { world, left, right, madeAt } = pair;
    sentDuring(pair, right, () => world.send(right, pong));
    const datagram = world.sent.at(-1)?.datagram ?? new Uint8Array();
    world.now = madeAt + age;
    world.carry(left, left.device.receive(datagram, right.endpoint, world.now));
    assert.equal(left.delivered.length, taken);
    assert.equal(left.device.counters.sessionExpired, 1 - taken);
  });

for (const { age, types } of [
  { age: 164_999, types: [] },
  { age: 165_000, types: [1] },
])
  test(`the initiator that receives at ${age} ms begins ${types.length} handshakes, however many messages come`, () => {
    const pair = aged(age);
    const { world, left, right } = pair;
    sentDuring(pair, right, () => {
      world.send(right, pong);
      world.send(right, pong);
    });
    const came = world.sent.slice(-2).map(({ datagram }) => datagram);
    const sent = sentDuring(pair, left, () => {
      for (const datagram of came) world.carry(left, left.device.receive(datagram, right.endpoint, world.now));
    });
    assert.equal(left.delivered.length, 2);
    assert.deepEqual(sent, types);
  });

test("the responder that receives on an old session begins nothing", () => {
  const pair = aged(179_000);
  const { world, left, right } = pair;
  sentDuring(pair, left, () => world.send(left, ping));
  const came = world.sent.find(({ at, datagram }) => at === world.now && datagram[0] === 4)?.datagram;
  assert(came !== undefined);
  assert.deepEqual(
    sentDuring(pair, right, () => right.device.receive(came, left.endpoint, world.now)),
    [],
  );
});

test("a counter of 2^64 - 2^13 - 1 is refused on arrival, the one before it is taken", () => {
  for (const { low, taken } of [
    { low: 0xffff_dffe, taken: 1 },
    { low: 0xffff_dfff, taken: 0 },
  ]) {
    const pair = connected();
    const { world, left, right } = pair;
    const session = sessionOf(left, "10.0.0.2", world.now);
    assert(session !== undefined);
    session.counterHigh = 0xffff_ffff;
    session.counterLow = 0xffff_dffe;
    sentDuring(pair, left, () => world.send(left, ping));
    const datagram = world.sent.find(({ datagram }) => datagram[0] === 4 && datagram[15] === 0xff)?.datagram;
    assert(datagram !== undefined);
    new DataView(datagram.buffer, datagram.byteOffset).setUint32(8, low, true);
    right.device.receive(datagram, left.endpoint, world.now);
    assert.equal(right.device.counters.sessionExpired, 1 - taken);
    assert.equal(right.device.counters.forged, 0);
  }
});

for (const jitterMs of [0, 333])
  test(`with ${jitterMs} ms of jitter, retries follow after ${5_000 + jitterMs} ms until 90 s are over`, () => {
    const world = new World(1, INSTANT);
    world.jitterMs = jitterMs;
    world.passes = () => false;
    const { left } = pairIn(world);
    const startedAt = world.now;
    world.send(left, ping);
    world.run(90 * SECOND - 1);
    assert.equal(left.device.counters.stagedDropped, 0, "the packet still waits a millisecond before");
    world.run(1);
    assert.equal(left.device.counters.stagedDropped, 1);
    const tries = world.sent.map(({ at }) => at - startedAt);
    assert.deepEqual(
      tries,
      Array.from({ length: Math.ceil((90 * SECOND) / (5_000 + jitterMs)) }, (_, i) => i * (5_000 + jitterMs)),
    );
    world.run(600 * SECOND);
    assert.equal(world.sent.length, tries.length, "and nothing comes after");
  });

test("a packet on the way prolongs the attempts to 90 s after itself", () => {
  const world = new World(1, INSTANT);
  world.jitterMs = 0;
  world.passes = () => false;
  const { left } = pairIn(world);
  const startedAt = world.now;
  world.send(left, ping);
  world.run(60 * SECOND);
  world.send(left, ping);
  world.run(300 * SECOND);
  assert.equal((world.sent.at(-1)?.at ?? 0) - startedAt, 145 * SECOND);
});

test("no jitter is below 0 or above 333 ms, and both ends occur", () => {
  const gaps = new Set<number>();
  for (let bytes = 0; bytes <= 0xffff; bytes += 257 * 5) {
    const world = new World(1, INSTANT);
    world.jitterMs = bytes;
    world.passes = () => false;
    const { left } = pairIn(world);
    world.send(left, ping);
    world.run(6 * SECOND);
    gaps.add((world.sent[1]?.at ?? 0) - (world.sent[0]?.at ?? 0));
  }
  assert(Math.min(...gaps) >= 5_000 && Math.max(...gaps) <= 5_333, `${Math.min(...gaps)} to ${Math.max(...gaps)}`);
  for (const jitterMs of [0, 333, 334, 667]) {
    const { world, left } = connected(jitterMs);
    world.run(10 * SECOND);
    world.passes = () => false;
    world.send(left, ping);
    const sentAt = world.now;
    const before = world.sent.length;
    world.run(20 * SECOND);
    const silence = world.sent.slice(before).find(({ datagram }) => datagram[0] === 1);
    assert.equal((silence?.at ?? 0) - sentAt, 15 * SECOND + (jitterMs % 334));
  }
});

test("a passive keepalive follows a received packet after 10 s to the millisecond, and only if nothing else was sent", () => {
  const { world, right, left, madeAt } = connected();
  world.run(10 * SECOND - 1);
  assert.deepEqual(typesSent(world, right), [2]);
  world.run(1);
  assert.deepEqual(typesSent(world, right), [2, 4]);
  assert.equal(world.sent.at(-1)?.at, madeAt + 10 * SECOND);
  world.send(left, ping);
  world.run(5 * SECOND);
  world.send(right, pong);
  world.run(9 * SECOND);
  assert.deepEqual(typesSent(world, right), [2, 4, 4], "the answer stood in for the keepalive");
});

test("packets that keep coming do not put the keepalive off: it follows 10 s after the first", () => {
  const { world, left, right, madeAt } = connected();
  for (let i = 0; i < 10; i++) {
    world.run(4 * SECOND);
    world.send(left, ping);
  }
  const times = world.sent.filter(({ from, datagram }) => from === right.endpoint && datagram[0] === 4);
  // The packets of 0, 12 and 24 s begin the waits, and no handshake was ever wanted.
  assert.deepEqual(
    times.map(({ at }) => at - madeAt),
    [10 * SECOND, 22 * SECOND, 34 * SECOND],
  );
  assert.equal(typesSent(world, left).filter((type) => type === 1).length, 1);
});

test("a keepalive is not answered with a keepalive", () => {
  const { world, left, right } = connected();
  world.run(10 * SECOND);
  const sent = [typesSent(world, left).length, typesSent(world, right).length];
  world.run(60 * SECOND);
  assert.deepEqual([typesSent(world, left).length, typesSent(world, right).length], sent);
});

test("a persistent keepalive comes 25 s after the last message either way, not every 25 s", () => {
  const { world, left, right } = connected();
  world.configure(left, [peerOf(right, ["10.0.0.2/32"], { persistentKeepaliveSeconds: 25 })]);
  world.run(20 * SECOND);
  world.send(right, pong);
  const at = world.now;
  const before = typesSent(world, left).length;
  // 10 s later the passive keepalive answers; 25 s after that the persistent one is due.
  world.run(10 * SECOND);
  assert.equal(typesSent(world, left).length, before + 1);
  world.run(25 * SECOND - 1);
  assert.equal(typesSent(world, left).length, before + 1);
  world.run(1);
  assert.equal(typesSent(world, left).length, before + 2);
  assert.equal(world.sent.at(-1)?.at, at + 35 * SECOND);
});

test("keys are zeroed 540 s after the last session was made, to the millisecond, on both sides", () => {
  const { world, left, right, madeAt } = connected();
  const sessions = [sessionOf(left, "10.0.0.2", world.now), sessionOf(right, "10.0.0.1", world.now)];
  world.run(madeAt + 540 * SECOND - 1 - world.now);
  for (const session of sessions) assert(session?.sendKey.some((byte) => byte !== 0));
  world.run(1);
  for (const session of sessions)
    assert([...(session?.sendKey ?? [1]), ...(session?.receiveKey ?? [1])].every((byte) => byte === 0));
});

test("a handshake that is never answered leaves its keys for 540 s after giving up at most", () => {
  const { world, left, madeAt } = connected();
  world.passes = () => false;
  world.now = madeAt + 300 * SECOND;
  world.send(left, ping);
  world.run(90 * SECOND + 540 * SECOND);
  assert.equal(left.device.deadline, undefined);
});

test("a cookie is used for 115 s after it came, and the secret behind it lives 120 s", () => {
  const random = bytesOf(chanceOf(9));
  const receiver = random(32);
  const [jar, judge] = [new CookieJar(receiver), new CookieJudge(receiver)];
  const from = parseEndpoint("192.0.2.1:1");
  const message = random(148);
  jar.sign(message, 0);
  assert(jar.take(judge.reply({ sender: 1, mac1: message.slice(116, 132) }, from, 0, random), 0));
  const signedAt = (now: number): Uint8Array => {
    const next = random(148).fill(0, 116);
    jar.sign(next, now);
    return next;
  };
  assert(judge.mac2Valid(signedAt(115 * SECOND - 1), from, 2 * MINUTE - 1));
  assert(!judge.mac2Valid(signedAt(115 * SECOND - 1), from, 2 * MINUTE));
  assert(
    signedAt(115 * SECOND)
      .subarray(132)
      .every((byte) => byte === 0),
  );
});
