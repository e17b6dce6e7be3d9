import assert from "node:assert/strict";
import { test } from "node:test";
import { formatEndpoint, tryEndpoint } from "../../src/kit/endpoint.js";
import {
  cidrContains,
  ipFromBigInt,
  ipToBigInt,
  isPrivate,
  makeCidr,
  parseCidr,
  parseIp,
  tryCidr,
  tryIp,
} from "../../src/kit/ip.js";

// RFC 5952 §4 with its own examples, then what must be refused.
const canonical: [string, string][] = [
  ["192.0.2.1", "192.0.2.1"],
  ["2001:0db8::0001", "2001:db8::1"],
  ["2001:db8:0:0:0:0:2:1", "2001:db8::2:1"],
  ["2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"],
  ["2001:0:0:1:0:0:0:1", "2001:0:0:1::1"],
  ["2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"],
  ["2001:DB8::AbC", "2001:db8::abc"],
  ["::", "::"],
  ["::1", "::1"],
  ["1::", "1::"],
  ["::ffff:192.0.2.1", "::ffff:c000:201"],
  ["64:ff9b::192.0.2.33", "64:ff9b::c000:221"],
];
for (const [text, expected] of canonical) test(`${text} is ${expected}`, () => assert.equal(tryIp(text), expected));

for (const text of [
  "",
  "1.2.3",
  "1.2.3.256",
  "01.2.3.4",
  "1.2.3.4.5",
  "1:2:3:4:5:6:7",
  "1:2:3:4:5:6:7:8:9",
  "1::2::3",
  ":::",
  "1:2:3:4:5:6:7::8",
  "g::",
  "fe80::1%eth0",
  "1.2.3.4::",
  " ::1",
])
  test(`"${text}" is no address`, () => assert.equal(tryIp(text), undefined));

test("an address survives the way through a number, in both families", () => {
  for (const text of [
    "0.0.0.0",
    "255.255.255.255",
    "100.64.0.1",
    "::",
    "2001:db8::1",
    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
  ]) {
    const ip = parseIp(text);
    assert.equal(ipFromBigInt(ipToBigInt(ip), text.includes(":") ? 6 : 4), ip);
  }
});

test("a prefix loses its host bits, a bare address is a prefix of itself", () => {
  assert.equal(parseCidr("198.18.77.50/24"), "198.18.77.0/24");
  assert.equal(parseCidr("2001:db8:77:1::50/64"), "2001:db8:77:1::/64");
  assert.equal(parseCidr("10.0.0.1"), "10.0.0.1/32");
  assert.equal(makeCidr(parseIp("203.0.113.77"), 0), "0.0.0.0/0");
  for (const text of ["10.0.0.0/33", "::/129", "10.0.0.0/-1", "10.0.0.0/", "10.0.0.0/8/8", "/8"])
    assert.equal(tryCidr(text), undefined, text);
});

test("containment never crosses families", () => {
  assert.ok(cidrContains(parseCidr("0.0.0.0/0"), parseIp("8.8.8.8")));
  assert.ok(!cidrContains(parseCidr("::/0"), parseIp("8.8.8.8")));
});

test("home, carrier and link ranges are private, documentation ranges stand for the public Internet", () => {
  for (const text of [
    "10.1.2.3",
    "172.31.0.1",
    "192.168.1.1",
    "100.127.0.1",
    "198.18.77.1",
    "169.254.1.1",
    "fd00::1",
    "fe80::1",
  ])
    assert.ok(isPrivate(parseIp(text)), text);
  for (const text of ["8.8.8.8", "172.32.0.1", "100.128.0.1", "203.0.113.7", "2001:db8::1"])
    assert.ok(!isPrivate(parseIp(text)), text);
});

test("an endpoint is written as it is read, an IPv6 address in brackets, a port from 1 to 65535", () => {
  for (const text of ["203.0.113.7:51820", "[2001:db8::7]:51820"]) {
    const endpoint = tryEndpoint(text);
    assert.ok(endpoint !== undefined);
    assert.equal(formatEndpoint(endpoint), text);
  }
  for (const text of [
    "203.0.113.7",
    "203.0.113.7:0",
    "203.0.113.7:65536",
    "2001:db8::7:51820",
    "host:51820",
    "[203.0.113.7]:x",
  ])
    assert.equal(tryEndpoint(text), undefined, text);
});
