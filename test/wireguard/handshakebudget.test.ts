import assert from "node:assert/strict";
import { test } from "node:test";
import { parseIp } from "../../src/kit/ip.js";
import { COOKIE_REPLIES_MAX, COOKIE_REPLIES_PER_SOURCE_MAX } from "../../src/wireguard/constants.js";
import { HandshakeBudget } from "../../src/wireguard/handshakebudget.js";

const sourceOf = (i: number) => parseIp(`10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`);

test("a flood from one address gets few cookies, and leaves some for another", () => {
  const budget = new HandshakeBudget();
  budget.underLoad(0);
  const replies = Array.from({ length: 20_000 }, () => budget.mayReply(sourceOf(1))).filter(Boolean);
  assert.equal(replies.length, COOKIE_REPLIES_PER_SOURCE_MAX);
  assert.equal(budget.mayReply(sourceOf(2)), true);
});

test("a flood from many addresses gets no more cookies in a second than the device can afford", () => {
  const budget = new HandshakeBudget();
  budget.underLoad(0);
  const replies = Array.from({ length: 20_000 }, (_, i) => budget.mayReply(sourceOf(i))).filter(Boolean);
  assert.equal(replies.length, COOKIE_REPLIES_MAX);
  budget.underLoad(1_000);
  assert.equal(budget.mayReply(sourceOf(7)), true, "the next second has its own");
});
