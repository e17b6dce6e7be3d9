import assert from "node:assert/strict";
import { test } from "node:test";
import { MINUTE } from "../../src/kit/time.js";
import { chooseHome } from "../../src/relay/homechoice.js";

const NOW = 10 * MINUTE;
const near = (relay: string, roundTripMs: number, at = NOW) => ({ relay, roundTripMs, at });

for (const { name, current, latencies, home } of [
  {
    name: "the nearest of the first measurements",
    current: undefined,
    latencies: [near("a", 30), near("b", 20)],
    home: "b",
  },
  { name: "the old one against a gain of 9 ms", current: "a", latencies: [near("a", 20), near("b", 11)], home: "a" },
  {
    name: "the old one against a gain below a third",
    current: "a",
    latencies: [near("a", 90), near("b", 61)],
    home: "a",
  },
  { name: "the new one for 10 ms and a third", current: "a", latencies: [near("a", 40), near("b", 26)], home: "b" },
  { name: "the new one when the old one is no longer heard of", current: "a", latencies: [near("b", 200)], home: "b" },
  { name: "the old one when nothing is heard of", current: "a", latencies: [], home: "a" },
  {
    name: "by the best of each relay's measurements",
    current: "a",
    latencies: [near("a", 500), near("a", 20), near("b", 15)],
    home: "a",
  },
  {
    name: "without measurements older than 5 minutes",
    current: "a",
    latencies: [near("a", 1, NOW - 6 * MINUTE), near("a", 90), near("b", 20)],
    home: "b",
  },
  { name: "nothing when there is nothing", current: undefined, latencies: [], home: undefined },
])
  test(`home is ${name}`, () => assert.equal(chooseHome(current, latencies, NOW), home));
