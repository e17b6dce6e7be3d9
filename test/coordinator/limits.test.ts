import assert from "node:assert/strict";
import { test } from "node:test";
import { Allowance, CALLERS_MAX } from "../../src/coordinator/allowance.js";
import { pageOf } from "../../src/coordinator/api/page.js";
import { forbidden } from "../../src/coordinator/destination.js";
import { ATTEMPTS_MAX, ATTEMPTS_OF_ALL_MAX, LOCKOUT_MS, Lockout } from "../../src/coordinator/lockout.js";
import { Metrics } from "../../src/coordinator/metrics.js";
import { senderOf } from "../../src/coordinator/sender.js";
import type { Cidr, Ip } from "../../src/kit/ip.js";
import { neighbourhood } from "../../src/kit/neighbourhood.js";
import { matchesAction } from "../../src/wire/webhooks.js";

const NOW = 1_000_000;

test("an allowance gives its burst at once, then so much a second, and one caller takes nothing from another", () => {
  const allowance = new Allowance({ perSecond: 2, burst: 3 });
  const take = (name: string, now: number): boolean => allowance.take(name, now);
  assert.deepEqual(
    [1, 2, 3, 4].map(() => take("a", NOW)),
    [true, true, true, false],
  );
  assert.equal(take("b", NOW), true);
  assert.deepEqual([take("a", NOW + 499), take("a", NOW + 500), take("a", NOW + 500)], [false, true, false]);
  assert.deepEqual(
    [1, 2, 3, 4].map(() => take("a", NOW + 60_000)),
    [true, true, true, false],
  );
});

test("an allowance remembers a bounded number of callers", () => {
  const allowance = new Allowance({ perSecond: 1, burst: 1 });
  assert.equal(allowance.take("first", NOW), true);
  assert.equal(allowance.take("first", NOW), false);
  for (let n = 0; n < CALLERS_MAX; n++) allowance.take(`${n}`, NOW);
  assert.equal(allowance.take("first", NOW), true, "it was not forgotten");
});

test("who guesses from many addresses of one IPv6 subscriber is one who guesses", () => {
  const lockout = new Lockout();
  for (let n = 0; n < ATTEMPTS_MAX; n++) lockout.failed(`2001:db8:1:2::${n.toString(16)}`, NOW);
  assert.equal(lockout.isLocked("2001:db8:1:2:ffff::1", NOW), true);
  assert.equal(lockout.isLocked("2001:db8:1:3::1", NOW), false);
  assert.equal(lockout.isLocked("2001:db8:1:2:ffff::1", NOW + LOCKOUT_MS), false);
});

test("an address is the same whether a socket of both families shows it or one of IPv4", () => {
  const lockout = new Lockout();
  for (let n = 0; n < ATTEMPTS_MAX; n++) lockout.failed("::ffff:203.0.113.9", NOW);
  assert.equal(lockout.isLocked("203.0.113.9", NOW), true);
});

test("when guesses come from everywhere, who was right before is still listened to, and nobody else, for a minute", () => {
  const lockout = new Lockout();
  lockout.succeeded("198.51.100.7", NOW);
  for (let n = 0; n < ATTEMPTS_OF_ALL_MAX; n++) lockout.failed(`10.${n >> 8}.${n & 255}.1`, NOW);
  assert.equal(lockout.isLocked("198.51.100.8", NOW), true);
  assert.equal(lockout.isLocked("198.51.100.7", NOW), false);
  assert.equal(lockout.isLocked("198.51.100.8", NOW + LOCKOUT_MS), false);
});

test("neighbourhoods: an IPv4 address, an IPv6 /64, and anything else as it is", () => {
  assert.equal(neighbourhood("203.0.113.9"), "203.0.113.9");
  assert.equal(neighbourhood("::ffff:203.0.113.9"), "203.0.113.9");
  assert.equal(neighbourhood("2001:db8:1:2:3::4"), "2001:db8:1:2::/64");
  assert.equal(neighbourhood(""), "");
});

const PROXIES = ["10.0.0.1/32", "10.0.0.2/32"] as Cidr[];
for (const { name, remote, forwarded, expected } of [
  { name: "no proxy is trusted to say it", remote: "203.0.113.9", forwarded: "1.1.1.1", expected: "203.0.113.9" },
  { name: "our proxy says it", remote: "10.0.0.1", forwarded: "203.0.113.9", expected: "203.0.113.9" },
  {
    name: "what a client wrote before is not believed",
    remote: "10.0.0.1",
    forwarded: "1.1.1.1, 203.0.113.9",
    expected: "203.0.113.9",
  },
  {
    name: "two proxies of ours",
    remote: "::ffff:10.0.0.1",
    forwarded: "1.1.1.1, 203.0.113.9, 10.0.0.2",
    expected: "203.0.113.9",
  },
  { name: "our proxy says nothing", remote: "10.0.0.1", forwarded: undefined, expected: "10.0.0.1" },
  { name: "our proxy says nonsense", remote: "10.0.0.1", forwarded: "unknown", expected: "10.0.0.1" },
])
  test(`who sent a request, when ${name}: ${expected}`, () => {
    assert.equal(senderOf(remote, forwarded, PROXIES), expected);
  });

for (const [url, address, allowed] of [
  ["https://x.example/", "203.0.113.7", true],
  ["http://x.example/", "203.0.113.7", false],
  ["http://ha.home/", "192.168.1.5", true],
  ["https://x.example/", "127.0.0.1", false],
  ["https://x.example/", "169.254.169.254", false],
  ["https://x.example/", "::ffff:169.254.169.254", false],
  ["https://x.example/", "64:ff9b::a9fe:a9fe", false],
  ["https://x.example/", "64:ff9b::cb00:7107", true],
  ["https://x.example/", "::1", false],
  ["https://x.example/", "::", false],
  ["https://x.example/", "0.0.0.0", false],
  ["https://x.example/", "fe80::1", false],
  ["https://x.example/", "2002:7f00:1::1", false],
  ["https://x.example/", "255.255.255.255", false],
  ["https://x.example/", "fd00::1", true],
] as const)
  test(`a webhook to ${url} at ${address} is ${allowed ? "sent" : "refused"}`, () => {
    assert.equal(forbidden(new URL(url), address as Ip, false) === undefined, allowed);
  });

test("pages of a list hold each entry once, also when entries come and go between two of them", () => {
  const entry = (n: number) => ({ id: `d${n}`, createdAtMs: 1_000 + Math.floor(n / 3) });
  let all = Array.from({ length: 10 }, (_, n) => entry(n)).reverse();
  const seen: string[] = [];
  for (let cursor: string | undefined; ; ) {
    const { page, next } = pageOf(all, { limit: 3, cursor });
    seen.push(...page.map(({ id }) => id));
    // The last one seen is removed, and another joins.
    all = [...all.filter(({ id }) => id !== page.at(-1)?.id), entry(20 + seen.length)];
    if (next === undefined || seen.length > 40) break;
    cursor = next;
  }
  assert.equal(new Set(seen).size, seen.length);
  assert.deepEqual(
    seen.slice(0, 10),
    Array.from({ length: 10 }, (_, n) => `d${n}`),
  );
  assert.throws(() => pageOf(all, { limit: 3, cursor: "nonsense" }), /cursor/);
});

test("a pattern takes all, all of a noun, or one action, and not what merely begins like it", () => {
  assert.ok(
    matchesAction("*", "device.join") &&
      matchesAction("device.*", "device.join") &&
      matchesAction("device.join", "device.join"),
  );
  assert.ok(!matchesAction("device.*", "devices.join") && !matchesAction("device.join", "device.join-again"));
});

test("figures are lines that Prometheus reads, with labels escaped", () => {
  const metrics = new Metrics();
  metrics.asked("GET", "/a", 200, 30);
  metrics.asked("GET", "/a", 200, 3_000);
  metrics.read({ name: "x", kind: "gauge", help: "An x.", values: () => [{ labels: { l: 'a"\\\n' }, value: 1 }] });
  const text = metrics.render();
  assert.match(text, /^x\{l="a\\"\\\\\\n"\} 1$/m);
  assert.match(text, /^exitnode_api_requests_total\{method="GET",route="\/a",status="200"\} 2$/m);
  assert.match(text, /^exitnode_api_request_seconds_bucket\{le="0.1"\} 1$/m);
  assert.match(text, /^exitnode_api_request_seconds_bucket\{le="\+Inf"\} 2$/m);
});
