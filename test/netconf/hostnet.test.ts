import assert from "node:assert/strict";
import { test } from "node:test";
import { parseCidr, parseIp } from "../../src/kit/ip.js";
import { dnsTable } from "../../src/netconf/clientdns.js";
import { type HostNet, type ObservedHostNet, planHostNet, previousOf, type Step } from "../../src/netconf/hostnet.js";
import { readHostNet } from "../../src/netconf/hostnetobserve.js";
import { isTable, readTable, renderTable } from "../../src/netconf/nfttable.js";

const mesh: HostNet = {
  device: "exn0",
  mtu: 1280,
  addresses: [parseIp("100.64.0.7"), parseIp("fd7e:1::7")],
  routes: [parseCidr("100.64.0.0/10"), parseCidr("fd7e:1::/48")],
  everything: false,
  fwmark: 0x45_0000,
  uid: 988,
  escapes: [],
  resolver: undefined,
};
const exit: HostNet = { ...mesh, everything: true, resolver: { port: 41_000, asked: [] } };

const bare: ObservedHostNet = {
  device: "exn0",
  link: { up: false, mtu: 1500 },
  addresses: [],
  rules: { 4: [], 6: [] },
  routes: { 4: [], 6: [] },
  ip6: true,
  own: [],
  dns: undefined,
  inbound: undefined,
  rpFilter: { all: 0, default: 0, eth0: 0 },
  previous: {},
};

const lines = (steps: readonly Step[]): string => steps.map(({ argv }) => argv.join(" ")).join("\n");

test("without an exit only mesh ranges are routed into the device", () => {
  assert.equal(
    lines(planHostNet(mesh, bare)),
    `ip link set dev exn0 mtu 1280 up
ip address add 100.64.0.7/32 dev exn0
ip address add fd7e:1::7/128 dev exn0 nodad
ip -4 route replace 100.64.0.0/10 dev exn0 table 5182
ip -6 route replace fd7e:1::/48 dev exn0 table 5182
ip -4 rule add pref 5310 fwmark 0x450000 lookup main
ip -4 rule add pref 5330 lookup 5182 suppress_prefixlength 0
ip -6 rule add pref 5310 fwmark 0x450000 lookup main
ip -6 rule add pref 5330 lookup 5182 suppress_prefixlength 0`,
  );
});

test("with an exit everything of both families enters the device but marked packets, the agent's user and direct networks", () => {
  assert.equal(
    lines(planHostNet({ ...exit, direct: [parseCidr("192.168.1.0/24")], escapes: [parseIp("203.0.113.5")] }, bare)),
    `ip link set dev exn0 mtu 1280 up
ip address add 100.64.0.7/32 dev exn0
ip address add fd7e:1::7/128 dev exn0 nodad
ip -4 route replace 100.64.0.0/10 dev exn0 table 5182
ip -4 route replace 0.0.0.0/0 dev exn0 table 5182
ip -6 route replace fd7e:1::/48 dev exn0 table 5182
ip -6 route replace ::/0 dev exn0 table 5182
nft -f -
ip -4 rule add pref 5310 fwmark 0x450000 lookup main
ip -4 rule add pref 5315 to 203.0.113.5/32 lookup main
ip -4 rule add pref 5330 lookup 5182 suppress_prefixlength 0
ip -4 rule add pref 5335 to 192.168.1.0/24 lookup main
ip -4 rule add pref 5337 from 100.64.0.7/32 lookup 5182
ip -4 rule add pref 5338 from 100.64.0.7/32 unreachable
ip -4 rule add pref 5340 uidrange 988-988 lookup main
ip -4 rule add pref 5341 uidrange 988-988 unreachable
ip -4 rule add pref 5350 lookup 5182
ip -4 rule add pref 5355 ipproto 17 dport 53 lookup main
ip -4 rule add pref 5355 ipproto 6 dport 53 lookup main
ip -4 rule add pref 5358 lookup main suppress_prefixlength 0
ip -4 rule add pref 5360 unreachable
ip -6 rule add pref 5310 fwmark 0x450000 lookup main
ip -6 rule add pref 5330 lookup 5182 suppress_prefixlength 0
ip -6 rule add pref 5335 to fe80::/10 lookup main
ip -6 rule add pref 5337 from fd7e:1::7/128 lookup 5182
ip -6 rule add pref 5338 from fd7e:1::7/128 unreachable
ip -6 rule add pref 5340 uidrange 988-988 lookup main
ip -6 rule add pref 5341 uidrange 988-988 unreachable
ip -6 rule add pref 5350 lookup 5182
ip -6 rule add pref 5355 ipproto 17 dport 53 lookup main
ip -6 rule add pref 5355 ipproto 6 dport 53 lookup main
ip -6 rule add pref 5358 lookup main suppress_prefixlength 0
ip -6 rule add pref 5360 unreachable`,
  );
});

test("networks of this machine's own bridges stay direct, and not that of one which its default route leaves by", () => {
  const none = { exitCode: 0, stdout: "[]" };
  const bridge = (ifname: string, local: string, prefixlen: number) => ({
    ...{ ifname, flags: ["UP"], mtu: 1500 },
    addr_info: [{ local, prefixlen, scope: "global" }],
  });
  const bridges = [
    bridge("docker0", "172.17.0.1", 16),
    bridge("br0", "192.168.1.5", 24),
    bridge("virbr0", "fd12::1", 64),
  ];
  const way = JSON.stringify([{ dst: "default", gateway: "192.168.1.1", dev: "br0" }]);
  const { own } = readHostNet(
    "exn0",
    {
      ...{ addresses: none, rules4: none, rules6: none, routes4: none, routes6: none, dns: none, inbound: none },
      ...{ rpFilter: none, ip6Off: none, ways6: none },
      ...{ bridges: { exitCode: 0, stdout: JSON.stringify(bridges) }, ways4: { exitCode: 0, stdout: way } },
    },
    {},
  );
  assert.deepEqual(own, ["172.17.0.0/16", "fd12::/64"]);
  const planned = lines(planHostNet(exit, { ...bare, own }));
  assert.match(planned, /ip -4 rule add pref 5335 to 172\.17\.0\.0\/16 lookup main\n/);
  assert.match(planned, /ip -6 rule add pref 5335 to fd12::\/64 lookup main\n/);
  assert.doesNotMatch(lines(planHostNet(mesh, { ...bare, own })), /172/);
});

test("leaving an exit takes the rules away last to first and keeps the mesh", () => {
  const observed: ObservedHostNet = {
    ...bare,
    link: { up: true, mtu: 1280 },
    addresses: ["100.64.0.7/32", "fd7e:1::7/128"],
    rules: {
      4: [
        "pref 5310 fwmark 0x450000 lookup main",
        "pref 5330 lookup 5182 suppress_prefixlength 0",
        "pref 5350 lookup 5182",
        "pref 5360 unreachable",
      ],
      6: ["pref 5310 fwmark 0x450000 lookup main", "pref 5330 lookup 5182 suppress_prefixlength 0"],
    },
    routes: {
      4: [
        { to: "0.0.0.0/0", dev: "exn0" },
        { to: "100.64.0.0/10", dev: "exn0" },
      ],
      6: [{ to: "fd7e:1::/48", dev: "exn0" }],
    },
    dns: { mark: "whatever", rules: 9 },
  };
  assert.equal(
    lines(planHostNet(mesh, observed)),
    `ip -4 route del 0.0.0.0/0 table 5182
nft delete table inet exitnode_client
ip -4 rule del pref 5360 unreachable
ip -4 rule del pref 5350 lookup 5182`,
  );
});

test("a machine without IPv6 is planned for IPv4 alone", () => {
  const steps = lines(planHostNet(exit, { ...bare, ip6: false }));
  assert.doesNotMatch(steps, /-6|fd7e/);
});

test("a strict reverse path filter is loosened for an exit, remembered, and put back", () => {
  const strict = { ...bare, rpFilter: { all: 0, default: 1, eth0: 1 } };
  const previous = previousOf(exit, strict);
  assert.deepEqual(previous, { rpFilterAll: 0 });
  const step = planHostNet(exit, strict).find(({ argv }) => argv[0] === "tee");
  assert.deepEqual([step?.argv, step?.input], [["tee", "/proc/sys/net/ipv4/conf/all/rp_filter"], "2\n"]);
  const loosened = { ...strict, rpFilter: { ...strict.rpFilter, all: 2 }, previous };
  assert.deepEqual(previousOf(exit, loosened), previous);
  assert.equal(
    planHostNet(exit, loosened).find(({ argv }) => argv[0] === "tee"),
    undefined,
  );
  assert.equal(planHostNet(undefined, loosened).find(({ argv }) => argv[0] === "tee")?.input, "0\n");
});

test("what was there before is kept until it is put back, and not a moment longer", () => {
  const loosened = { ...bare, rpFilter: { all: 2, default: 1, eth0: 1 }, previous: { rpFilterAll: 1 } };
  assert.deepEqual(previousOf(mesh, loosened), { rpFilterAll: 1 });
  assert.deepEqual(previousOf(mesh, { ...loosened, rpFilter: { all: 1, eth0: 1 } }), {});
});

test("a reverse path filter that is off or loose is let be", () => {
  for (const all of [0, 2]) {
    const observed = { ...bare, rpFilter: { all, default: 0, eth0: all === 2 ? 1 : 0 } };
    assert.deepEqual(previousOf(exit, observed), {});
    assert.equal(
      planHostNet(exit, observed).find(({ argv }) => argv[0] === "tee"),
      undefined,
    );
  }
});

const redirect = {
  device: "exn0",
  uid: 988,
  resolver: { port: 41_000, asked: ["192.168.7.1", "fd7e::1"].map(parseIp) },
};

test("while an exit is used every look-up is redirected, and one beside the tunnel is dropped", () => {
  assert.equal(
    renderTable(dnsTable({ ...redirect, everything: true })).replace(/: [0-9a-f]{32}"/, ': MARK"'),
    `table inet exitnode_client
delete table inet exitnode_client
table inet exitnode_client {
  comment "exitnode: MARK"
  chain dns_redirect {
    type nat hook output priority -100; policy accept;
    oifname "lo" accept
    meta skuid 988 accept
    meta l4proto { 6, 17 } th dport 53 redirect to :41000
  }
  chain dns_hold {
    type filter hook postrouting priority 0; policy accept;
    oifname { "lo", "exn0" } accept
    meta skuid 988 accept
    ct direction original meta l4proto { 6, 17 } ct original proto-dst 53 drop
    meta l4proto { 6, 17 } th dport 53 drop
    meta l4proto { 6, 17 } th dport { 137, 5353, 5355 } drop
  }
}
`,
  );
});

test("without an exit only what is asked of the machine's own resolvers is redirected, and nothing is dropped", () => {
  const table = renderTable(dnsTable({ ...redirect, everything: false }));
  assert.match(table, /ip daddr \{ 192\.168\.7\.1 \} meta l4proto \{ 6, 17 \} th dport 53 redirect to :41000/);
  assert.match(table, /ip6 daddr \{ fd7e::1 \} meta l4proto/);
  assert.doesNotMatch(table, /drop|dport 53 redirect to :41000\n.*dport 53 redirect to :41000\n.*dport 53/);
  const unknown = planHostNet({ ...mesh, resolver: { port: 41_000, asked: [] } }, bare);
  assert.doesNotMatch(lines(unknown), /nft/, "of resolvers that are not known nothing can be told");
});

test("a conversation that a neighbour begins is marked to be answered beside the exit, and networks within others once", () => {
  const near = ["192.168.7.0/24", "172.17.0.0/16", "192.168.0.0/16", "2001:db8:7::/64", "192.168.7.0/24"];
  const steps = planHostNet({ ...exit, near: near.map(parseCidr) }, bare);
  assert.equal(
    steps.filter(({ argv }) => argv[0] === "nft")[1]?.input?.replace(/: [0-9a-f]{32}"/, ': MARK"'),
    `table inet exitnode_inbound
delete table inet exitnode_inbound
table inet exitnode_inbound {
  comment "exitnode: MARK"
  chain begun {
    type filter hook prerouting priority -150; policy accept;
    ct direction reply ct mark 0x450002 meta mark set 0x450000
    iifname { "lo", "exn0" } accept
    fib daddr type != local accept
    tcp flags & (fin | syn | rst | ack) == syn ct mark set 0x450002
    icmp type echo-request ct mark set 0x450002
    icmpv6 type echo-request ct mark set 0x450002
    ip saddr { 172.17.0.0/16, 192.168.0.0/16 } meta l4proto 17 ct state new ct mark set 0x450002
    ip6 saddr { 2001:db8:7::/64 } meta l4proto 17 ct state new ct mark set 0x450002
  }
  chain answered {
    type route hook output priority -150; policy accept;
    ct direction reply ct mark 0x450002 meta mark set 0x450000
  }
}
`,
  );
  assert.equal(lines(planHostNet({ ...mesh, near: [] }, bare)).includes("nft"), false, "only with an exit");
});

test("a table is known again by its mark and its number of rules, however many resolvers it names", () => {
  const asked = Array.from({ length: 8 }, (_, i) => parseIp(`2001:db8:1234:5678:9abc:def0:1234:${i + 1}`));
  const want = (port: number) => dnsTable({ ...redirect, everything: false, resolver: { port, asked } });
  const text = renderTable(want(1));
  const listing = text.slice(text.lastIndexOf("table inet"));
  assert.ok(isTable(want(1), readTable(listing)));
  assert.ok(!isTable(want(2), readTable(listing)));
  assert.ok(!isTable(want(1), readTable(listing.replace('    oifname "lo" accept\n', ""))));
  assert.ok((/comment "(.*)"/.exec(listing)?.[1]?.length ?? 999) <= 128, "nftables takes no longer comment");
});

test("output that is no JSON, and commands that fail, are read as nothing there", () => {
  const nothing = { exitCode: 2, stdout: "[" };
  const broken = { exitCode: 0, stdout: "{}" };
  const outputs = {
    addresses: nothing,
    rules4: broken,
    rules6: { exitCode: 0, stdout: "[]" },
    routes4: nothing,
    routes6: broken,
    bridges: broken,
    ways4: nothing,
    ways6: nothing,
    dns: nothing,
    inbound: nothing,
    rpFilter: nothing,
    ip6Off: nothing,
  };
  assert.deepEqual(readHostNet("exn0", outputs, {}), { ...bare, link: undefined, rpFilter: {} });
});
