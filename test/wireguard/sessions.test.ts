import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { IndexTable } from "../../src/wireguard/indextable.js";
import { Keypair, Keypairs } from "../../src/wireguard/keypairs.js";
import { numbered, numberIn, pairIn, sessionOf, typesSent, World } from "./world.js";

/** A peer's three sessions (paper §6.3), and the table by whose indices messages find them. */

let nextIndex = 1;
function keypair(isInitiator: boolean): Keypair {
  const keys = { sendKey: new Uint8Array(32).fill(1), receiveKey: new Uint8Array(32).fill(2) };
  return new Keypair(keys, { localIndex: nextIndex++, remoteIndex: 0, isInitiator, madeAt: 0 });
}

describe("sessions of a peer", () => {
  test("an initiated one sends at once; the one before it still receives, the one before that is gone", () => {
    const keypairs = new Keypairs(false);
    const [first, second, third] = [keypair(true), keypair(true), keypair(true)];
    keypairs.addInitiated(first);
    assert.deepEqual([keypairs.previous, keypairs.current, keypairs.next], [undefined, first, undefined]);
    assert.deepEqual(keypairs.addInitiated(second), [undefined]);
    assert.deepEqual([keypairs.previous, keypairs.current, keypairs.next], [first, second, undefined]);
    assert.deepEqual(keypairs.addInitiated(third), [first]);
    assert.deepEqual([keypairs.previous, keypairs.current, keypairs.next], [second, third, undefined]);
  });

  test("an answered one waits as next until it is confirmed, and takes the previous one's place meanwhile", () => {
    const keypairs = new Keypairs(false);
    const [first, second, answered] = [keypair(true), keypair(true), keypair(false)];
    keypairs.addInitiated(first);
    keypairs.addInitiated(second);
    assert.deepEqual(keypairs.addResponded(answered), [undefined, first]);
    assert.deepEqual([keypairs.previous, keypairs.current, keypairs.next], [undefined, second, answered]);
    assert.equal(keypairs.confirm(), undefined);
    assert.deepEqual([keypairs.previous, keypairs.current, keypairs.next], [second, answered, undefined]);
  });

  test("an unconfirmed one gives way to the next answered one", () => {
    const keypairs = new Keypairs(false);
    const [lost, answered] = [keypair(false), keypair(false)];
    keypairs.addResponded(lost);
    assert.deepEqual(keypairs.addResponded(answered), [lost, undefined]);
    assert.equal(keypairs.next, answered);
  });

  test("an initiated one that crosses an unconfirmed one keeps that and lets the current one go", () => {
    const keypairs = new Keypairs(false);
    const [current, unconfirmed, initiated] = [keypair(true), keypair(false), keypair(true)];
    keypairs.addInitiated(current);
    keypairs.addResponded(unconfirmed);
    assert.deepEqual(keypairs.addInitiated(initiated), [undefined, current]);
    assert.deepEqual([keypairs.previous, keypairs.current, keypairs.next], [unconfirmed, initiated, undefined]);
  });

  test("the responder sends nothing on a session before it has received on it", () => {
    const world = new World();
    const { left, right } = pairIn(world);
    // The response arrives, and everything of the initiator after it is lost.
    world.passes = (datagram, from) => from === right || datagram[0] === 1;
    world.send(left, numbered("10.0.0.1", "10.0.0.2", 1));
    world.run(100);
    assert.equal(sessionOf(right, "10.0.0.1", world.now), undefined);
    world.send(right, numbered("10.0.0.2", "10.0.0.1", 2));
    assert.deepEqual(typesSent(world, right), [2], "the packet waits");
    world.passes = () => true;
    world.run(6_000);
    assert.deepEqual(left.delivered.map(numberIn), [2], "until a session is confirmed");
  });

  test("a message sealed before a rekey is taken after it, and not after the one that follows", () => {
    const world = new World();
    const { left, right } = pairIn(world);
    let sequence = 0;
    const say = (): void => world.send(left, numbered("10.0.0.1", "10.0.0.2", ++sequence));
    const held: Uint8Array[] = [];
    const hold = (): void => {
      world.passes = () => false;
      say();
      held.push(world.sent.at(-1)?.datagram ?? new Uint8Array());
      world.passes = () => true;
    };
    const renew = (): void => {
      world.run(121_000);
      say();
      world.run(100);
      say();
      world.run(100);
    };
    say();
    world.run(100);
    hold();
    renew();
    // Beyond 180 s of its own age nothing would be taken: the second renewal is looked at at once.
    const arrived = (): number[] => right.delivered.splice(0).map(numberIn);
    arrived();
    for (const datagram of held) world.carry(right, right.device.receive(datagram, left.endpoint, world.now));
    assert.deepEqual(arrived(), [2]);
    hold();
    const before = right.device.counters.unknownIndex;
    renew();
    renew();
    right.device.receive(held[1] ?? new Uint8Array(), left.endpoint, world.now);
    assert.equal(right.device.counters.unknownIndex, before + 1);
  });
});

describe("indices", () => {
  test("an index that is taken is not given out again: chance is asked until it says another", () => {
    const said = [7, 7, 7, 9].map((first) => Uint8Array.of(first, 0, 0, 0));
    const table = new IndexTable<string>(() => said.shift() ?? new Uint8Array(4));
    assert.equal(table.take("one"), 7);
    assert.equal(table.take("two"), 9);
    assert.deepEqual([table.get(7), table.get(9), table.size], ["one", "two", 2]);
    table.free(7);
    assert.deepEqual([table.get(7), table.size], [undefined, 1]);
  });

  test("chance that says the same for ever is a bug, and is told", () => {
    const table = new IndexTable<string>(() => new Uint8Array(4));
    table.take("one");
    assert.throws(() => table.take("two"), /index/);
    assert.equal(table.size, 1);
  });

  test("200 renewals, answered, lost or crossing, hold four indices at most and none in the end", () => {
    const world = new World(5);
    const { left, right } = pairIn(world);
    for (let i = 0; i < 200; i++) {
      const loss = world.chance();
      world.passes = () => world.chance() > loss * loss;
      if (world.chance() < 0.7) world.send(left, numbered("10.0.0.1", "10.0.0.2", i));
      if (world.chance() < 0.7) world.send(right, numbered("10.0.0.2", "10.0.0.1", i));
      world.run(world.chance() * 200_000);
      for (const { device } of [left, right]) assert(world.indicesOf(device) <= 4, `${world.indicesOf(device)}`);
    }
    world.run(20 * 60_000);
    for (const { device } of [left, right]) {
      assert.equal(world.indicesOf(device), 0);
      assert.equal(device.deadline, undefined);
    }
  });
});
