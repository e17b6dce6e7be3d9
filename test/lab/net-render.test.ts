import assert from "node:assert/strict";
import { test } from "node:test";
import { toHex } from "../../src/kit/bytes.js";
import { cidrContains, familyOf, parseIp, tryCidr } from "../../src/kit/ip.js";
import { neighbours, placeEtc, renderGatewayDns, renderHosts, renderPublicDns } from "../../src/lab/dnsmasq.js";
import { renderFirewall } from "../../src/lab/firewall.js";
import { type Gateway, MACHINE, type NatKind, namespaceOf } from "../../src/lab/internet.js";
import { renderLinks, renderMachine, renderNamespaces, renderPlace, renderSysctls } from "../../src/lab/iproute.js";
import { encodeRelease, parseLeases } from "../../src/lab/lease.js";
import { findPlace, insidePlace, renderWrapper } from "../../src/lab/places.js";
import { missingPackages, requireLinuxRoot } from "../../src/lab/preflight.js";
import { topology } from "../../src/lab/topology.js";

const place = (name: string) => findPlace(topology, name);

function gatewayOf(name: string): Gateway {
  const { gateway } = place(name);
  assert.ok(gateway);
  return gateway;
}

test("every wire joins two devices that exist, and no device hangs on two wires", () => {
  const ends = topology.links.flat();
  for (const end of ends) {
    const devices = end.place === MACHINE ? [topology.machine] : place(end.place).devices;
    assert.ok(
      devices.some(({ name }) => name === end.device),
      `${end.place}/${end.device}`,
    );
  }
  const names = ends.map((end) => `${end.place}/${end.device}`);
  assert.equal(new Set(names).size, names.length);
});

test("every next hop is on a link of its place, and belongs to another place", () => {
  const owners = new Map(
    topology.places.flatMap((one) =>
      one.devices.flatMap(({ addresses }) => addresses.map((text) => [text.split("/")[0] ?? "", one.name] as const)),
    ),
  );
  for (const one of topology.places) {
    const links = one.devices.flatMap(({ addresses }) => addresses).map((text) => tryCidr(text));
    for (const { to, via } of one.routes) {
      if (via === undefined) continue;
      assert.ok(
        links.some((link) => link !== undefined && cidrContains(link, via)),
        `${one.name}: ${to} via ${via}`,
      );
      assert.ok(owners.get(via) !== undefined && owners.get(via) !== one.name, `${one.name}: ${via} is nobody's`);
    }
  }
});

test("every address of a router has a name, so that no hop of a trace is a bare number", () => {
  const named = new Set(topology.places.flatMap(({ names }) => names.flatMap(({ addresses }) => addresses)));
  for (const router of topology.places.filter(({ forwards }) => forwards))
    for (const text of router.devices.flatMap(({ addresses }) => addresses))
      assert.ok(named.has(parseIp(text.split("/")[0] ?? "")), `${router.name}: ${text}`);
});

test("an interface name fits the kernel's 15 characters", () => {
  const names = [topology.machine, ...topology.places.flatMap(({ devices }) => devices)].map(({ name }) => name);
  assert.deepEqual(
    names.filter((name) => name.length > 15),
    [],
  );
});

test("only one wire leaves the lab", () => {
  assert.equal(topology.links.flat().filter((end) => end.place === MACHINE).length, 1);
});

test("the namespaces and wires are these", () => {
  assert.equal(
    renderNamespaces(topology),
    "laptop cafe cafeisp core homeisp home pve1 nas web vps mobile"
      .split(" ")
      .map((name) => `netns add exn-${name}\n`)
      .join(""),
  );
  assert.equal(
    renderLinks(topology),
    `link add name eth0 netns exn-laptop type veth peer name lan-laptop netns exn-cafe
link add name wan netns exn-cafe type veth peer name cafe netns exn-cafeisp
link add name core netns exn-cafeisp type veth peer name cafeisp netns exn-core
link add name homeisp netns exn-core type veth peer name core netns exn-homeisp
link add name home netns exn-homeisp type veth peer name wan netns exn-home
link add name lan-pve1 netns exn-home type veth peer name eno1 netns exn-pve1
link add name lan-nas netns exn-home type veth peer name eth0 netns exn-nas
link add name web netns exn-core type veth peer name eth0 netns exn-web
link add name vps netns exn-core type veth peer name eth0 netns exn-vps
link add name mobile netns exn-core type veth peer name wan netns exn-mobile
link add name exn-mgmt type veth peer name mgmt netns exn-pve1
`,
  );
  assert.equal(renderMachine(topology), "address add 198.18.77.254/24 dev exn-mgmt\nlink set dev exn-mgmt up\n");
});

test("the Proxmox host has its bridge with a fixed MAC address and no forwarding delay", () => {
  assert.equal(
    renderPlace(place("pve1")),
    `link set lo up
link set dev eno1 up
link set dev mgmt up
link add name vmbr0 address 02:00:c6:12:4d:0a type bridge forward_delay 0 mcast_snooping 0
link set dev eno1 master vmbr0
link set dev mgmt master vmbr0
address add 198.18.77.10/24 dev vmbr0
address add 2001:db8:77:1::10/64 dev vmbr0 nodad
link set dev vmbr0 up
route add 0.0.0.0/0 via 198.18.77.1
route add ::/0 via 2001:db8:77:1::1
`,
  );
});

test("a provider refuses the addresses of its range that nobody has", () => {
  assert.equal(
    renderPlace(place("home-isp")),
    `link set lo up
address add 203.0.113.73/29 dev home
address add 2001:db8:ff77::1/64 dev home nodad
link set dev home up
address add 203.0.113.2/30 dev core
address add 2001:db8:ffff:2::2/64 dev core nodad
link set dev core up
route add 0.0.0.0/0 via 203.0.113.1
route add ::/0 via 2001:db8:ffff:2::1
route add unreachable 203.0.113.0/24
route add unreachable 128.66.77.0/24
route add 2001:db8:77::/48 via 2001:db8:ff77::77
`,
  );
});

test("sysctls become a script that stops at the first refusal", () => {
  assert.equal(
    renderSysctls([["ipv4/ip_forward", "1"]]),
    `set -e
echo 1 > /proc/sys/net/ipv4/ip_forward
for file in /proc/sys/net/bridge/bridge-nf-call-*; do [ ! -e $file ] || echo 0 > $file; done
`,
  );
});

test("the home router translates IPv4, forwards four ports, hairpins, and drops what nobody inside asked for", () => {
  assert.equal(
    renderFirewall(gatewayOf("home")),
    `table inet router
delete table inet router
table inet router {
  chain prerouting {
    type nat hook prerouting priority dstnat; policy accept;
    ip daddr 203.0.113.77 udp dport 51820 dnat ip to 198.18.77.50
    ip daddr 203.0.113.77 tcp dport 443 dnat ip to 198.18.77.50
    ip daddr 203.0.113.77 udp dport 3478 dnat ip to 198.18.77.50
    ip daddr 203.0.113.77 udp dport 3479 dnat ip to 198.18.77.50
  }
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    oifname "wan" ip saddr 198.18.77.0/24 masquerade
    oifname "lan" ip saddr 198.18.77.0/24 ct status dnat masquerade
  }
  chain input {
    type filter hook input priority filter; policy accept;
    ct state established,related accept
    iifname "wan" meta l4proto { icmp, ipv6-icmp } accept
    iifname "wan" drop
  }
  chain forward {
    type filter hook forward priority filter; policy drop;
    ct state established,related accept
    ct state invalid drop
    iifname "lan" accept
    ct status dnat accept
  }
}
`,
  );
});

const differences: Record<NatKind, string[]> = {
  "address-and-port-dependent": [],
  "endpoint-independent": [
    "  map inside {",
    "    type inet_service : ipv4_addr",
    "    flags dynamic,timeout",
    "    timeout 2m",
    '    iifname "wan" ip daddr 198.51.100.88 dnat ip to udp dport map @inside',
    '    iifname "lan" oifname "wan" update @inside { udp sport : ip saddr }',
  ],
  open: ['    iifname "wan" ip daddr 198.51.100.88 dnat ip to 198.18.88.50', '    iifname "wan" accept'],
  double: [],
  "ipv6-only": [],
  "ipv4-only": [],
  symmetric: ['    oifname "wan" ip saddr 198.18.88.0/24 masquerade fully-random'],
  "udp-blocked": ["    meta l4proto udp drop"],
};
for (const [nat, added] of Object.entries(differences) as [NatKind, string[]][]) {
  test(`the café's router as ${nat} differs from an ordinary one by exactly its rule`, () => {
    const usual = new Set(renderFirewall(gatewayOf("cafe")).split("\n"));
    const other = renderFirewall({ ...gatewayOf("cafe"), nat }).split("\n");
    assert.deepEqual(
      other.filter((line) => !usual.has(line)),
      added,
    );
  });
}

test("the home router hands out leases, keeps an address for `home`, and advertises its prefix", () => {
  assert.equal(
    renderGatewayDns(place("home"), gatewayOf("home"), "/run/x"),
    `keep-in-foreground
no-daemon
user=root
group=root
pid-file=
no-resolv
no-hosts
addn-hosts=/run/x/home.hosts
interface=lan
bind-dynamic
server=192.0.2.53
server=2001:db8:80::53
domain=home
expand-hosts
local=/home/
local=/77.18.198.in-addr.arpa/
dhcp-authoritative
no-ping
dhcp-leasefile=/run/x/home.leases
dhcp-range=198.18.77.100,198.18.77.199,2m
dhcp-host=home,198.18.77.50
quiet-dhcp
quiet-ra
enable-ra
dhcp-range=2001:db8:77:1::,ra-names,64,10m
ra-param=lan,10,600
`,
  );
});

test("the public DNS knows nothing but its own names", () => {
  assert.equal(
    renderPublicDns(place("web"), "/run/x"),
    `keep-in-foreground
no-daemon
user=root
group=root
pid-file=
no-resolv
no-hosts
addn-hosts=/run/x/web.hosts
listen-address=192.0.2.53
listen-address=2001:db8:80::53
bind-interfaces
address=/#/
`,
  );
});

test("a home router's own names are its LAN's, one line per address", () => {
  assert.equal(
    renderHosts(neighbours(topology, gatewayOf("home"))),
    `198.18.77.1 home-router.home
2001:db8:77:1::1 home-router.home
203.0.113.77 home-router.lab
2001:db8:ff77::77 home-router.lab
128.66.77.77 wan.home-router.lab
198.18.65.2 wan.home-router.lab
198.18.77.10 pve1.home
2001:db8:77:1::10 pve1.home
198.18.77.20 nas.home
2001:db8:77:1::20 nas.home
`,
  );
});

test("no address has two lines in the public zone: the first name is the answer to a reverse look-up", () => {
  const addresses = renderHosts(topology.places)
    .split("\n")
    .map((line) => line.split(" ")[0] ?? "");
  assert.equal(new Set(addresses).size, addresses.length);
});

test("a place resolves names by its own router, whatever the machine is set to", () => {
  const etc = placeEtc(place("nas"));
  assert.equal(etc["resolv.conf"], "nameserver 198.18.77.1\nsearch home\noptions timeout:2 attempts:2\n");
  assert.match(etc["nsswitch.conf"] ?? "", /^hosts: files dns$/m);
});

test("a command in a place finds this very program first, and keeps the device's files of that place apart", () => {
  const inside = insidePlace(place("cafe-isp"), ["ip", "a"], "/run/bin", { PATH: "/usr/bin" });
  assert.deepEqual(inside.argv, ["ip", "netns", "exec", "exn-cafeisp", "ip", "a"]);
  assert.match(inside.env.PATH ?? "", /^\/run\/bin:\/usr\/bin:/);
  assert.equal(inside.env.EXITNODE_ETC, "/var/lib/exitnode-lab/places/cafe-isp/etc");
  assert.equal(namespaceOf("cafe-isp"), "exn-cafeisp");
  assert.throws(() => place("moon"), { code: "place-unknown" });
});

test("the program's wrapper survives a space and a quote in its path", () => {
  assert.equal(
    renderWrapper(["/opt/it's here/node", "m.js"]),
    `#!/bin/sh\nexec '/opt/it'\\''s here/node' 'm.js' "$@"\n`,
  );
});

test("what is missing is named as the packages to install", () => {
  assert.deepEqual(missingPackages(["dnsmasq", "nft"]), ["nftables", "dnsmasq-base"]);
  assert.throws(() => requireLinuxRoot({ platform: "linux", uid: 1000 }, "lab up"), {
    code: "lab-needs-root",
    advice: "sudo exitnode lab up",
  });
  assert.throws(() => requireLinuxRoot({ platform: "darwin", uid: 0 }, "lab up"), { code: "lab-needs-linux" });
});

test("a lease is given back with the MAC address, client identifier and address it was taken with", () => {
  const text =
    "1795381270 bc:24:11:00:00:01 198.18.77.50 home ff:01:02\n1795381271 02:00:00:00:00:02 198.18.77.100 * *\nduid 00:01\n";
  const leases = parseLeases(text);
  assert.deepEqual(leases, [
    { mac: "bc:24:11:00:00:01", address: "198.18.77.50", clientId: "ff:01:02" },
    { mac: "02:00:00:00:00:02", address: "198.18.77.100" },
  ]);
  const [first, second] = leases.map((lease) => toHex(encodeRelease(lease, parseIp("198.18.77.1"))));
  const fixed = `01010600${"00000000".repeat(2)}c6124d32${"00".repeat(12)}bc2411000001${"00".repeat(10 + 192)}63825363`;
  assert.equal(first, `${fixed}3501073604c6124d013d03ff0102ff`);
  assert.match(second ?? "", /3501073604c6124d01ff$/);
});

test("every public IPv4 address is out of the documentation ranges", () => {
  const ranges = ["192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "198.18.0.0/15"].map((text) => tryCidr(text));
  for (const text of topology.places.flatMap(({ devices }) => devices.flatMap(({ addresses }) => addresses))) {
    const ip = parseIp(text.split("/")[0] ?? "");
    if (familyOf(ip) === 4)
      assert.ok(
        ranges.some((range) => range !== undefined && cidrContains(range, ip)),
        text,
      );
    else assert.match(ip, /^2001:db8:/);
  }
});
