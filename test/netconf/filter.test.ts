import assert from "node:assert/strict";
import { test } from "node:test";
import type { Cidr } from "../../src/kit/ip.js";
import { isFilter, type Rule, renderFilter } from "../../src/netconf/filter.js";

const cidrs = (...texts: string[]): Cidr[] => texts as Cidr[];
const from = cidrs("100.64.0.9/32", "100.64.0.2/32", "fd01::2/128");
const rules: Rule[] = [
  {
    from,
    to: cidrs("100.64.0.1/32", "fd01::1/128"),
    protocol: "tcp",
    ports: [
      [22, 22],
      [8000, 8100],
    ],
  },
  { from, to: cidrs("0.0.0.0/0"), protocol: "any", routed: true },
  { from: cidrs("fd01::/48"), to: cidrs("fd01::1/128"), protocol: "icmp" },
  { from: cidrs("fd01::/48"), to: cidrs("100.64.0.1/32"), protocol: "udp" },
];

test("a filter's table: sets of its own, one list for the machine and a longer one for what is passed on", () => {
  const text = renderFilter({ device: "exn0", rules }).replace(/comment ".*"/, 'comment "…"');
  assert.equal(
    text,
    `table inet exitnode_filter
delete table inet exitnode_filter
table inet exitnode_filter {
  comment "…"
  set s0 {
    type ipv4_addr; flags interval; auto-merge
    elements = { 100.64.0.2/32, 100.64.0.9/32 }
  }
  chain own {
    meta l4proto { 1, 58 } ct state related accept
    ct original ip saddr @s0 ct original ip daddr 100.64.0.1/32 meta l4proto 6 ct original proto-dst { 22, 8000-8100 } accept
    ct original ip6 saddr fd01::2/128 ct original ip6 daddr fd01::1/128 meta l4proto 6 ct original proto-dst { 22, 8000-8100 } accept
    ct original ip6 saddr fd01::/48 ct original ip6 daddr fd01::1/128 meta l4proto { 1, 58 } accept
    drop
  }
  chain routed {
    meta l4proto { 1, 58 } ct state related accept
    ct original ip saddr @s0 ct original ip daddr 100.64.0.1/32 meta l4proto 6 ct original proto-dst { 22, 8000-8100 } accept
    ct original ip6 saddr fd01::2/128 ct original ip6 daddr fd01::1/128 meta l4proto 6 ct original proto-dst { 22, 8000-8100 } accept
    ct original ip saddr @s0 ct original ip daddr 0.0.0.0/0 accept
    ct original ip6 saddr fd01::/48 ct original ip6 daddr fd01::1/128 meta l4proto { 1, 58 } accept
    drop
  }
  chain input {
    type filter hook input priority filter; policy accept;
    iifname != "exn0" accept
    ct direction reply accept
    jump own
  }
  chain output {
    type filter hook output priority filter; policy accept;
    ct mark 0x450002 accept
    oifname "exn0" ct direction reply jump own
  }
  chain forward {
    type filter hook forward priority filter; policy accept;
    iifname "exn0" oifname "exn0" drop
    iifname "exn0" ct direction reply accept
    iifname "exn0" jump routed
    oifname "exn0" ct direction reply jump routed
  }
}
`,
  );
});

test("an equal filter is known by its table, and another device's or other rules are not", () => {
  const filter = { device: "exn0", rules };
  const text = renderFilter(filter);
  assert.equal(isFilter(text, { device: "exn0", rules: [...rules] }), true);
  assert.equal(isFilter(text, { device: "exn1", rules }), false);
  assert.equal(isFilter(text, { device: "exn0", rules: rules.slice(1) }), false);
});
