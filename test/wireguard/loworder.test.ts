import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { dh, keyPairOf } from "../../src/kit/crypto.js";
import { parseEndpoint } from "../../src/kit/endpoint.js";
import { keyBytes, keyOf } from "../../src/kit/key.js";
import { SECOND } from "../../src/kit/time.js";
import { CookieJar } from "../../src/wireguard/cookie.js";
import { createInitiation } from "../../src/wireguard/handshake.js";
import { encodeMessage } from "../../src/wireguard/messages.js";
import { hex } from "./hex.js";
import { numbered, numberIn, pairIn, peerOf, publicBytes, World } from "./world.js";

/**
 * The points whose product with any private key is zero (RFC 7748 §6.1), as every byte string that means them: a
 * shared secret that the attacker knows without any key. The top bit is ignored by X25519, so it is tried as well.
 */
const POINTS = [
  ["zero", "0000000000000000000000000000000000000000000000000000000000000000"],
  ["one", "0100000000000000000000000000000000000000000000000000000000000000"],
  ["of order eight", "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"],
  ["the other of order eight", "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"],
  ["p - 1", "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"],
  ["p, which is zero", "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"],
  ["p + 1, which is one", "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"],
].flatMap(([name = "", text = ""]) => {
  const point = hex(text);
  return [
    { name, point },
    { name: `${name}, top bit set`, point: point.with(31, (point[31] ?? 0) | 0x80) },
  ];
});

const ping = numbered("10.0.0.1", "10.0.0.2", 1);

describe("low-order points", () => {
  test("multiply to nothing, whoever's key it is", () => {
    for (const { name, point } of POINTS)
      for (let seed = 1; seed <= 5; seed++) assert.equal(dh(new Uint8Array(32).fill(seed), point), undefined, name);
  });

  for (const { name, point } of POINTS) {
    test(`as an initiation's ephemeral key: ${name} is not answered`, () => {
      const world = new World();
      const { left, right } = pairIn(world);
      world.passes = () => false;
      world.send(left, ping);
      const datagram = world.sent[0]?.datagram ?? assert.fail("an initiation");
      datagram.set(point, 8);
      new CookieJar(publicBytes(right)).sign(datagram, world.now);
      assert.deepEqual(right.device.receive(datagram, left.endpoint, world.now), []);
      assert.equal(right.device.counters.handshakesInvalid, 1);
    });

    test(`as a response's ephemeral key: ${name} makes no session, and the true response still does`, () => {
      const world = new World();
      const { left, right } = pairIn(world);
      world.passes = (_, from) => from === left;
      world.send(left, ping);
      world.run(SECOND);
      const response = world.sent.find(({ datagram }) => datagram[0] === 2)?.datagram ?? assert.fail("a response");
      const forged = response.slice();
      forged.set(point, 12);
      new CookieJar(publicBytes(left)).sign(forged, world.now);
      assert.deepEqual(left.device.receive(forged, right.endpoint, world.now), []);
      assert.equal(left.device.counters.handshakesInvalid, 1);
      world.carry(left, left.device.receive(response, right.endpoint, world.now));
      world.run(SECOND);
      assert.deepEqual(right.delivered.map(numberIn), [1]);
    });

    test(`as a peer's public key: ${name} is never called, and whoever claims it is not let in`, () => {
      const world = new World();
      const { left, right } = pairIn(world);
      world.configure(right, [{ ...peerOf(left, ["10.0.0.1/32"]), publicKey: keyOf(point) }]);
      world.send(right, numbered("10.0.0.2", "10.0.0.1", 2));
      world.run(200 * SECOND);
      assert.equal(world.sent.length, 0);
      const before = right.device.counters.handshakesInvalid;
      assert(before > 0, "it was counted");

      // The product of both static keys would be zero, which the attacker knows.
      const attacker = { privateKey: keyPairOf(keyBytes(left.privateKey)).privateKey, publicKey: point };
      const remote = {
        publicKey: publicBytes(right),
        staticStatic: new Uint8Array(32),
        presharedKey: new Uint8Array(32),
      };
      const chance = { ephemeral: new Uint8Array(32).fill(9), sender: 1, timestamp: new Uint8Array(12).fill(0x40) };
      const created = createInitiation(attacker, remote, chance) ?? assert.fail("an initiation");
      const datagram = encodeMessage(created.message);
      new CookieJar(publicBytes(right)).sign(datagram, world.now);
      assert.deepEqual(right.device.receive(datagram, parseEndpoint("203.0.113.9:9"), world.now), []);
      assert.equal(right.device.counters.handshakesInvalid, before + 1);
    });
  }
});
