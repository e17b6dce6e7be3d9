import assert from "node:assert/strict";
import { test } from "node:test";
import { SECOND } from "../../src/kit/time.js";
import { mutateBytes } from "../fuzz/mutate.js";
import { chanceOf, numbered, pairIn, World } from "./world.js";

test("a tunnel under 10,000 random and mutated datagrams, as time passes, counts each once and lives on", () => {
  const world = new World(11);
  const { left, right } = pairIn(world);
  world.send(left, numbered("10.0.0.1", "10.0.0.2", 1));
  world.run(SECOND);
  const chance = chanceOf(12);
  const known = world.sent.map(({ datagram }) => datagram);
  for (let i = 0; i < 10_000; i++) {
    const effects = right.device.receive(mutateBytes(known, chance), left.endpoint, world.now);
    assert(!effects.some(({ kind }) => kind === "deliver"));
    if (i % 100 === 0) world.run(10);
  }
  world.run(3 * SECOND);
  const dropped = Object.values(right.device.counters).reduce((sum, count) => sum + count, 0);
  assert.equal(dropped, 10_000);
  world.send(left, numbered("10.0.0.1", "10.0.0.2", 2));
  world.run(SECOND);
  assert.equal(right.delivered.length, 2);
});
