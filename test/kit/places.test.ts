import assert from "node:assert/strict";
import { test } from "node:test";
import { Places } from "../../src/kit/places.js";

const [CROWD, OTHER] = ["203.0.113.1", "198.51.100.7"];
const anybody = (): boolean => true;

test("one address has all the places while nobody else wants one", () => {
  const places = new Places<number>(8);
  for (let i = 0; i < 8; i++) assert.equal(places.enter(i, CROWD), undefined);
  assert.deepEqual([...places], [0, 1, 2, 3, 4, 5, 6, 7]);
  assert.equal(places.heldBy(CROWD), 8);
});

test("at one more, whoever holds the most gives up its oldest, and nobody else anything", () => {
  const places = new Places<string>(4);
  for (const name of ["a", "b", "c"]) places.enter(name, CROWD);
  places.enter("stranger", OTHER);
  assert.deepEqual(
    ["d", "e", "f", "g"].map((name) => places.enter(name, CROWD)),
    ["a", "b", "c", "d"],
  );
  assert.equal(places.enter("another", OTHER), "e");
  assert.deepEqual([...places], ["stranger", "f", "g", "another"]);
});

test("where all hold one, the oldest of all makes room", () => {
  const places = new Places<number>(3);
  for (let i = 0; i < 3; i++) places.enter(i, `192.0.2.${i}`);
  assert.equal(places.enter(3, "192.0.2.3"), 0);
});

test("the addresses of an IPv6 /64 are one holder, and an IPv4 address is one however it is written", () => {
  const places = new Places<number>(3);
  places.enter(0, "2001:db8::1");
  places.enter(1, "2001:db8::2");
  places.enter(2, OTHER);
  assert.equal(places.enter(3, `::ffff:${OTHER}`), 0);
  assert.deepEqual(
    ["2001:db8::/64", OTHER].map((holder) => places.heldBy(holder)),
    [1, 2],
  );
});

test("who left has no place, and leaves none behind", () => {
  const places = new Places<number>(1);
  places.enter(0, CROWD);
  assert.deepEqual([places.leave(0), places.leave(0)], [true, false]);
  assert.deepEqual([places.size, places.heldBy(CROWD), places.evict()], [0, 0, undefined]);
});

test("holders take turns, each with its oldest, and who may not is passed over without losing its turn", () => {
  const places = new Places<string>(10);
  for (const name of ["a", "b", "c"]) places.enter(name, CROWD);
  for (const name of ["x", "y"]) places.enter(name, OTHER);
  assert.equal(places.next(anybody), "a");
  assert.equal(
    places.next((holder) => holder !== OTHER),
    "b",
  );
  assert.deepEqual(
    [1, 2, 3, 4].map(() => places.next(anybody)),
    ["x", "c", "y", undefined],
  );
});
