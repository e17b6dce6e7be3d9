import assert from "node:assert/strict";
import { test } from "node:test";
import {
  type Cidr,
  cidrContains,
  cidrLength,
  familyOf,
  ipBytes,
  ipFromBytes,
  makeCidr,
  parseCidr,
  parseIp,
} from "../../src/kit/ip.js";
import { AllowedIps } from "../../src/wireguard/allowedips.js";
import { PEERS_MAX } from "../../src/wireguard/constants.js";
import { chanceOf } from "./world.js";

function lookup(table: AllowedIps<string>, address: string): string | undefined {
  const ip = parseIp(address);
  return table.lookup(Uint8Array.of(0xff, ...ipBytes(ip)), 1, familyOf(ip));
}

function tableOf(entries: Record<string, string>): AllowedIps<string> {
  const table = new AllowedIps<string>();
  for (const [cidr, owner] of Object.entries(entries)) table.insert(parseCidr(cidr), owner);
  return table;
}

test("the longest prefix wins, in both families", () => {
  const table = tableOf({
    "0.0.0.0/0": "exit",
    "10.0.0.0/8": "office",
    "10.1.2.3/32": "printer",
    "::/0": "exit6",
    "fd00::/8": "home",
    "fd00::7/128": "nas",
  });
  for (const [address, owner] of [
    ["203.0.113.9", "exit"],
    ["10.9.9.9", "office"],
    ["10.1.2.3", "printer"],
    ["10.1.2.2", "office"],
    ["2001:db8::1", "exit6"],
    ["fd00::8", "home"],
    ["fd00::7", "nas"],
  ] as const)
    assert.equal(lookup(table, address), owner, address);
});

test("an address in no prefix has no owner", () => {
  const table = tableOf({ "10.0.0.0/8": "office", "10.1.0.0/16": "lab" });
  assert.equal(lookup(table, "11.0.0.1"), undefined);
  assert.equal(lookup(table, "::1"), undefined);
});

test("a prefix given to another leaves its first owner", () => {
  const table = tableOf({ "10.0.0.0/8": "first" });
  table.insert(parseCidr("10.0.0.0/8"), "second");
  assert.equal(lookup(table, "10.1.1.1"), "second");
});

test("a full table of peers with an address of each family find their owners, also after every one has moved on", () => {
  const table = tableOf({ "0.0.0.0/0": "exit", "::/0": "exit", "100.64.0.0/10": "network" });
  const addresses = Array.from({ length: PEERS_MAX }, (_, i) => [
    `100.64.${i >> 8}.${i & 255}`,
    `fd00::${i.toString(16)}`,
  ]);
  for (const round of ["first", "second"]) {
    for (const [i, own] of addresses.entries())
      for (const address of own)
        table.insert(makeCidr(parseIp(address), address.includes(":") ? 128 : 32), `${round} ${i}`);
    for (const [i, own] of addresses.entries())
      for (const address of own) assert.equal(lookup(table, address), `${round} ${i}`);
  }
  assert.equal(lookup(table, "100.127.0.1"), "network");
  assert.equal(lookup(table, "fd01::"), "exit");
  assert.equal(lookup(table, "0.0.0.0"), "exit");
});

for (const bytes of [4, 16])
  test(`it decides as a search through all prefixes would, ${bytes * 8} bits`, () => {
    const chance = chanceOf(bytes);
    // Few distinct bytes, so that prefixes nest and part often.
    const address = () => ipFromBytes(Uint8Array.from({ length: bytes }, () => Math.floor(chance() * 2) * 255));
    const table = new AllowedIps<Cidr>();
    const all = new Set<Cidr>();
    for (let i = 0; i < 400; i++) {
      const cidr = makeCidr(address(), Math.floor(chance() * (bytes * 8 + 1)));
      table.insert(cidr, cidr);
      all.add(cidr);
    }
    for (let i = 0; i < 500; i++) {
      const ip = address();
      const best = [...all].filter((cidr) => cidrContains(cidr, ip)).sort((a, b) => cidrLength(b) - cidrLength(a))[0];
      assert.equal(table.lookup(ipBytes(ip), 0, familyOf(ip)), best, ip);
    }
  });
