import assert from "node:assert/strict";
import { test } from "node:test";
import { parseEndpoint } from "../../src/kit/endpoint.js";
import { type Ip, ipFromBigInt, parseIp } from "../../src/kit/ip.js";
import { SECOND } from "../../src/kit/time.js";
import {
  HANDSHAKES_BEFORE_LOAD,
  HANDSHAKES_MAX_UNDER_LOAD,
  SOURCE_MESSAGES_MAX,
  SOURCES_MAX,
} from "../../src/wireguard/constants.js";
import { CookieJar, CookieJudge } from "../../src/wireguard/cookie.js";
import { HandshakeBudget } from "../../src/wireguard/handshakebudget.js";
import { type CookieReply, decodeMessage } from "../../src/wireguard/messages.js";
import {
  bytesOf,
  chanceOf,
  numbered,
  type Party,
  pairIn,
  publicBytes,
  World as Simulation,
  type World,
} from "./world.js";

const random = bytesOf(chanceOf(3));
const HOME = parseEndpoint("192.0.2.1:51820");

/** Initiations with a right mac1 and nothing else right, as anyone who knows the public key can make them. */
function flood(world: World, victim: Party, count: number): void {
  const jar = new CookieJar(publicBytes(victim));
  for (let i = 0; i < count; i++) {
    const datagram = random(148);
    datagram.set([1, 0, 0, 0]);
    jar.sign(datagram, world.now);
    victim.device.receive(datagram, parseEndpoint(`203.0.113.${1 + (i % 250)}:${1 + i}`), world.now);
  }
}

test("under load a stranger's flood is answered with cookies, and a peer still gets through with its own", () => {
  const world = new Simulation();
  const { left, right } = pairIn(world);
  flood(world, right, HANDSHAKES_BEFORE_LOAD);
  assert.equal(right.device.counters.cookieRepliesSent, 0);
  assert.equal(right.device.counters.handshakesInvalid, HANDSHAKES_BEFORE_LOAD);
  flood(world, right, 50);
  assert.equal(right.device.counters.cookieRepliesSent, 50);
  assert.equal(right.device.counters.handshakesInvalid, HANDSHAKES_BEFORE_LOAD);
  world.send(left, numbered("10.0.0.1", "10.0.0.2", 1));
  world.run(SECOND / 2);
  assert.equal(right.delivered.length, 0);
  assert.equal(world.sent.filter(({ datagram }) => datagram[0] === 3).length, 1);
  for (let i = 0; i < 12; i++) {
    flood(world, right, 150);
    world.run(SECOND / 2);
  }
  assert.equal(right.delivered.length, 1, "the retry carried the cookie");
});

test("a second after the flood nobody is asked for a cookie", () => {
  const world = new Simulation();
  const { left, right } = pairIn(world);
  flood(world, right, HANDSHAKES_BEFORE_LOAD + 1);
  world.run(SECOND);
  world.send(left, numbered("10.0.0.1", "10.0.0.2", 1));
  world.run(SECOND / 2);
  assert.equal(right.delivered.length, 1);
});

test("a wrong mac1 costs no handshake and earns no cookie", () => {
  const world = new Simulation();
  const { left, right } = pairIn(world);
  flood(world, right, HANDSHAKES_BEFORE_LOAD + 10);
  world.send(left, numbered("10.0.0.1", "10.0.0.2", 1));
  const initiation = world.sent[0]?.datagram ?? new Uint8Array();
  const before = right.device.counters.cookieRepliesSent;
  assert.deepEqual(right.device.receive(initiation.with(20, (initiation[20] ?? 0) ^ 1), left.endpoint, world.now), []);
  assert.equal(right.device.counters.mac1Invalid, 1);
  assert.equal(right.device.counters.cookieRepliesSent, before);
});

test("a cookie is good for the address, port and two minutes it was made for", () => {
  const receiver = random(32);
  const judge = new CookieJudge(receiver);
  const jar = new CookieJar(receiver);
  const first = random(148);
  jar.sign(first, 0);
  assert(judge.mac1Valid(first) && !judge.mac2Valid(first, HOME, 0));
  const reply = judge.reply({ sender: 7, mac1: first.subarray(116, 132) }, HOME, 0, random);
  assert(jar.take(reply, 0));
  const second = random(148);
  jar.sign(second, 10);
  assert(judge.mac1Valid(second) && judge.mac2Valid(second, HOME, 10));
  assert(!judge.mac2Valid(second, parseEndpoint("192.0.2.2:51820"), 10));
  assert(!judge.mac2Valid(second, parseEndpoint("192.0.2.1:51821"), 10));
  assert(!judge.mac2Valid(second, HOME, 120 * SECOND));
});

test("a cookie reply opens only with the mac1 that asked for it, and once", () => {
  const receiver = random(32);
  const judge = new CookieJudge(receiver);
  const jar = new CookieJar(receiver);
  const datagram = random(92);
  jar.sign(datagram, 0);
  const other = judge.reply({ sender: 7, mac1: random(16) }, HOME, 0, random);
  assert.equal(jar.take(other, 0), false);
  const reply: CookieReply = judge.reply({ sender: 7, mac1: datagram.subarray(60, 76) }, HOME, 0, random);
  assert.equal(
    jar.take({ ...reply, sealedCookie: reply.sealedCookie.with(0, (reply.sealedCookie[0] ?? 0) ^ 1) }, 0),
    false,
  );
  assert.equal(jar.take(reply, 0), true);
  assert.equal(jar.take(reply, 0), false);
});

test("one address has a burst and then its pace; all together have the device's budget", () => {
  const budget = new HandshakeBudget();
  for (let i = 0; i <= HANDSHAKES_BEFORE_LOAD; i++) budget.underLoad(0);
  const one = parseIp("192.0.2.1");
  const taken = Array.from({ length: 20 }, () => budget.admit(one, 0)).filter(Boolean).length;
  assert.equal(taken, SOURCE_MESSAGES_MAX.burst);
  assert.equal(budget.admit(one, 50), true);
  assert.equal(budget.admit(one, 50), false);
  const many = Array.from({ length: SOURCES_MAX + 5 }, (_, i): Ip => ipFromBigInt(BigInt(0x0a000000 + i), 4));
  assert.equal(
    many.filter((source) => budget.admit(source, 60)).length,
    HANDSHAKES_MAX_UNDER_LOAD - SOURCE_MESSAGES_MAX.burst - 1,
  );
});

test("a flooded device's replies are cookie replies to the flooder's index", () => {
  const world = new Simulation();
  const { right } = pairIn(world);
  flood(world, right, HANDSHAKES_BEFORE_LOAD);
  const datagram = random(148);
  datagram.set([1, 0, 0, 0, 9, 0, 0, 0]);
  new CookieJar(publicBytes(right)).sign(datagram, world.now);
  const [effect] = right.device.receive(datagram, HOME, world.now);
  assert(effect?.kind === "send");
  const reply = decodeMessage(effect.datagram);
  assert(reply?.type === 3 && reply.receiver === 9);
  assert.deepEqual(effect.to, HOME);
});
