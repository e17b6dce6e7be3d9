import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Rotation } from "../../src/agent/rotation.js";
import { utf8 } from "../../src/kit/bytes.js";
import { hash } from "../../src/kit/crypto.js";
import { type Key, keyOf } from "../../src/kit/key.js";
import { until } from "../engine/patience.js";
import { pings } from "../engine/places.js";
import { lostWhile } from "../vm/lostwhile.js";
import { PathsWorld, type PlacedAgent } from "./pathsworld.js";

/** What a change of the WireGuard key may cost: an interface has one private key, and the peers hear of it by a map. */
const GAP_MAX_MS = 1_000;
const PING_EVERY_MS = 50;

describe("an agent that changes its WireGuard key", () => {
  const world = new PathsWorld("exn-k-");
  let laptop: PlacedAgent;
  let home: PlacedAgent;

  before(async () => {
    await world.open();
    laptop = await world.agent("a", "laptop", { interface: "exnka" });
    home = await world.agent("b", "home", { interface: "exnkb" });
    await until("the exit node is there", async () => (await laptop.peer("home"))?.online === true);
    const address = (await laptop.peer("home"))?.addresses[0] ?? "";
    await until("it is answered", () => pings(laptop.place, address, "-W", "1"));
    await until("direct", async () => (await laptop.peer("home"))?.path === "direct");
  });
  after(() => world.close());

  for (const [who, title] of [
    ["home", "the one that is called loses a second at most"],
    ["laptop", "the one that calls loses a second at most"],
  ] as const)
    test(title, async (t) => {
      const address = (await laptop.peer("home"))?.addresses[0] ?? "";
      const rotating = who === "home" ? home : laptop;
      const { publicKey } = await rotating.status();
      const { came, lost } = await lostWhile(laptop.place, address, String(PING_EVERY_MS / 1_000), async () => {
        await rotating.ask({ do: "rotate" });
        await until("another key is in use", async () => (await rotating.status()).publicKey !== publicKey);
      });
      t.diagnostic(`${came} answers, ${lost.length} lost: ${lost.length * PING_EVERY_MS} ms`);
      assert.ok(came > 0 && lost.length * PING_EVERY_MS <= GAP_MAX_MS, `${lost.length} lost of ${came}`);
    });
});

const keyNamed = (name: string): Key => keyOf(hash(utf8(name)));

test("the new key is used once the coordinator knows it, and not by the welcome to the old one", async () => {
  const kept: Key[] = [];
  const rotation = new Rotation(keyNamed("old"), async (key) => void kept.push(key));
  const old = rotation.offered;
  rotation.begin(keyNamed("new"));
  assert.equal(await rotation.welcomed(old), false);
  assert.equal(rotation.privateKey, keyNamed("old"));
  assert.equal(await rotation.welcomed(rotation.offered), true);
  assert.deepEqual([rotation.privateKey, ...kept], [keyNamed("new"), keyNamed("new")]);
  assert.notEqual(rotation.offered, old);
});
