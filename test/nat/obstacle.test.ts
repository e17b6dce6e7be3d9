import assert from "node:assert/strict";
import { test } from "node:test";
import { parseEndpoint } from "../../src/kit/endpoint.js";
import { obstacleBetween, type Standing } from "../../src/nat/obstacle.js";

const standing = (nat: Standing["nat"], ...endpoints: string[]): Standing => ({
  nat,
  endpoints: endpoints.map(parseEndpoint),
});
const FOUR = "203.0.113.77:51820";
const SIX = "[2001:db8::7]:51820";
const LAN = "198.18.77.50:51820";

test("a LAN address beside a public IPv6 one does not stand for IPv4", () => {
  const here = standing("easy", FOUR);
  assert.equal(obstacleBetween(here, standing("easy", SIX, LAN), []).kind, "no-common-family");
  assert.equal(
    obstacleBetween(here, standing("easy", LAN), []).kind,
    "no-answer",
    "behind a NAT that is not known yet",
  );
  assert.equal(obstacleBetween(here, standing("easy", SIX, FOUR), []).kind, "no-answer");
});

test("what blocks comes before what merely makes it hard", () => {
  const hard = standing("hard", FOUR);
  assert.equal(obstacleBetween(standing("blocked", FOUR), hard, []).kind, "udp-blocked-here");
  assert.equal(obstacleBetween(hard, standing("blocked", FOUR), []).kind, "udp-blocked-there");
  assert.equal(obstacleBetween(hard, hard, []).kind, "both-hard");
  assert.equal(obstacleBetween(hard, standing("easy"), []).kind, "no-endpoints");
});
