import assert from "node:assert/strict";
import { test } from "node:test";
import { SECOND } from "../../src/kit/time.js";
import { bytesOf, chanceOf, numbered, pairIn, World } from "./world.js";

test("10,000 random and mutated datagrams and packets are dropped, never thrown, and the tunnel lives on", () => {
  const world = new World(11);
  const { left, right } = pairIn(world);
  world.send(left, numbered("10.0.0.1", "10.0.0.2", 1));
  world.run(SECOND);
  const chance = chanceOf(12);
  const random = bytesOf(chance);
  const known = world.sent.map(({ datagram }) => datagram);
  for (let i = 0; i < 10_000; i++) {
    const template = known[Math.floor(chance() * known.length)] ?? new Uint8Array();
    const datagram = mutate(template, chance, random);
    const effects = right.device.receive(datagram, left.endpoint, world.now);
    assert(!effects.some(({ kind }) => kind === "deliver"));
    left.device.send(datagram, world.now);
    if (i % 100 === 0) world.run(10);
  }
  world.run(3 * SECOND);
  const dropped = Object.values(right.device.counters).reduce((sum, count) => sum + count, 0);
  assert.equal(dropped, 10_000, "each is counted once");
  world.send(left, numbered("10.0.0.1", "10.0.0.2", 2));
  world.run(SECOND);
  assert.equal(right.delivered.length, 2);
});

test("an authentic message with nonsense inside is counted and dropped", () => {
  const world = new World(13);
  const { left, right } = pairIn(world);
  world.send(left, numbered("10.0.0.1", "10.0.0.2", 1));
  world.run(SECOND);
  const keypair = right.device.keypairByPeer(left.publicKey, world.now);
  assert(keypair !== undefined);
  const chance = chanceOf(14);
  const random = bytesOf(chance);
  for (let i = 0; i < 500; i++) {
    const inside = random(1 + Math.floor(chance() * 80));
    const effects = right.device.opened(keypair, inside, left.endpoint, world.now);
    assert(!effects.some(({ kind }) => kind === "deliver"));
  }
  const { innerMalformed, sourceNotAllowed } = right.device.counters;
  assert.equal(innerMalformed + sourceNotAllowed, 500);
});

function mutate(template: Uint8Array, chance: () => number, random: (length: number) => Uint8Array): Uint8Array {
  const kind = chance();
  if (kind < 0.2) return random(Math.floor(chance() * 200));
  if (kind < 0.4) {
    const bytes = random(Math.floor(chance() * 200));
    bytes.set([1 + Math.floor(chance() * 4), 0, 0, 0].slice(0, bytes.length));
    return bytes;
  }
  if (kind < 0.6) return template.slice(0, Math.floor(chance() * template.length));
  const bytes = template.slice();
  for (let i = 0; i < 1 + chance() * 4; i++) {
    const at = Math.floor(chance() * bytes.length);
    bytes[at] = (bytes[at] ?? 0) ^ (1 << Math.floor(chance() * 8));
  }
  return bytes;
}
