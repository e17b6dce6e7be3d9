import {
  bridge,
  CAFE_WAN,
  device,
  EXIT,
  everywhere,
  HOME_LISTED_WAN,
  HOME_WAN,
  ip,
  MACHINE,
  MOBILE_WAN,
  named,
  type Place,
  PUBLIC_RESOLVER,
  PUBLIC_RESOLVER6,
  PVE,
  type Topology,
  VPS,
  VPS_GATEWAY,
  VPS_GATEWAY6,
  VPS6,
  via,
  WEB,
  WEB6,
  wire,
} from "./internet.js";

/**
 * The lab's Internet as data: places, the wires between them, addresses, routes and names. Everything else in this
 * folder is rendered from this value, so a picture of the lab is read here and nowhere else.
 *
 *   laptop ─ cafe ─ cafe-isp ─┐          ┌─ web
 *                             ├─  core  ─┤
 *   pve1 ─┬─ home ─ home-isp ─┘          ├─ vps
 *   nas  ─┘                              └─ mobile
 *
 * Public IPv4 is out of the documentation ranges of RFC 5737, IPv6 out of RFC 3849's, private IPv4 out of the
 * benchmark range of RFC 2544: none of them can be a real neighbour's.
 */

const laptop: Place = {
  name: "laptop",
  title: "a laptop in a café",
  devices: [device("eth0", "198.18.88.50/24", "2001:db8:88:1::50/64")],
  routes: everywhere("198.18.88.1", "2001:db8:88:1::1", "eth0"),
  resolvers: [ip("198.18.88.1")],
  names: [named("laptop.lab", "2001:db8:88:1::50")],
};

const cafe: Place = {
  name: "cafe",
  title: "the café's router (NAT)",
  devices: [
    device("lan-laptop"),
    bridge("lan", ["lan-laptop"], "198.18.88.1/24", "2001:db8:88:1::1/64"),
    device("wan", `${CAFE_WAN}/28`, "2001:db8:ff88::88/64"),
  ],
  routes: everywhere("198.51.100.81", "2001:db8:ff88::1"),
  resolvers: [ip("127.0.0.1")],
  forwards: true,
  gateway: {
    lan: "lan",
    wan: "wan",
    wanAddress: CAFE_WAN,
    lanPrefix: "198.18.88.0/24",
    lanPrefix6: "2001:db8:88:1::/64",
    dhcp: { first: ip("198.18.88.100"), last: ip("198.18.88.199"), leaseMinutes: 2 },
    reserved: [],
    forwards: [],
    nat: "address-and-port-dependent",
  },
  names: [
    named("cafe-router.lab", "198.18.88.1", CAFE_WAN, "2001:db8:88:1::1", "2001:db8:ff88::88"),
    named("wan.cafe-router.lab", "198.18.64.2"),
  ],
};

const cafeIsp: Place = {
  name: "cafe-isp",
  title: "the café's Internet provider",
  devices: [
    device("cafe", "198.51.100.81/28", "2001:db8:ff88::1/64"),
    device("core", "198.51.100.2/30", "2001:db8:ffff:1::2/64"),
  ],
  // A provider's whole range ends here: an address nobody has is refused, not sent back to the core for ever.
  routes: [
    ...everywhere("198.51.100.1", "2001:db8:ffff:1::1"),
    { to: "198.51.100.0/24" },
    via("2001:db8:88::/48", "2001:db8:ff88::88"),
  ],
  resolvers: [PUBLIC_RESOLVER],
  forwards: true,
  provider: { line: "cafe", state: "up", lossPercent: 0 },
  names: [
    named("gw.cafe-isp.lab", "198.51.100.81", "198.18.64.1", "198.51.100.2", "2001:db8:ff88::1", "2001:db8:ffff:1::2"),
    named("nat.cafe-isp.lab", "198.51.100.120"),
  ],
};

const core: Place = {
  name: "core",
  title: "the Internet between the providers",
  devices: [
    device("cafeisp", "198.51.100.1/30", "2001:db8:ffff:1::1/64"),
    device("homeisp", "203.0.113.1/30", "2001:db8:ffff:2::1/64"),
    device("web", "192.0.2.65/27", "2001:db8:80::1/64"),
    device("vps", `${VPS_GATEWAY}/28`, `${VPS_GATEWAY6}/64`),
    device("mobile", "192.0.2.129/30", "2001:db8:ffff:3::1/64"),
  ],
  routes: [
    via("198.51.100.0/24", "198.51.100.2"),
    via("203.0.113.0/24", "203.0.113.2"),
    via("128.66.77.0/24", "203.0.113.2"),
    via(`${PUBLIC_RESOLVER}/32`, WEB),
    via("2001:db8:88::/48", "2001:db8:ffff:1::2"),
    via("2001:db8:ff88::/64", "2001:db8:ffff:1::2"),
    via("2001:db8:77::/48", "2001:db8:ffff:2::2"),
    via("2001:db8:ff77::/64", "2001:db8:ffff:2::2"),
    via("2001:db8:99::/48", "2001:db8:ffff:3::2"),
  ],
  resolvers: [PUBLIC_RESOLVER],
  forwards: true,
  names: [
    named("core1.internet.lab", "198.51.100.1", "203.0.113.1", "192.0.2.65", VPS_GATEWAY, "192.0.2.129"),
    named(
      "core1.internet.lab",
      "2001:db8:ffff:1::1",
      "2001:db8:ffff:2::1",
      "2001:db8:80::1",
      "2001:db8:22::1",
      "2001:db8:ffff:3::1",
    ),
  ],
};

const homeIsp: Place = {
  name: "home-isp",
  title: "the home's Internet provider",
  devices: [
    device("home", "203.0.113.73/29", "2001:db8:ff77::1/64"),
    device("core", "203.0.113.2/30", "2001:db8:ffff:2::2/64"),
  ],
  routes: [
    ...everywhere("203.0.113.1", "2001:db8:ffff:2::1"),
    { to: "203.0.113.0/24" },
    { to: "128.66.77.0/24" },
    via("2001:db8:77::/48", "2001:db8:ff77::77"),
  ],
  resolvers: [PUBLIC_RESOLVER],
  forwards: true,
  provider: { line: "home", state: "up", lossPercent: 0 },
  names: [
    named("gw.home-isp.lab", "203.0.113.73", "198.18.65.1", "203.0.113.2", "2001:db8:ff77::1", "2001:db8:ffff:2::2"),
    named("nat.home-isp.lab", "203.0.113.120"),
  ],
};

const home: Place = {
  name: "home",
  title: "the home's router (NAT)",
  devices: [
    device("lan-pve1"),
    device("lan-nas"),
    bridge("lan", ["lan-pve1", "lan-nas"], "198.18.77.1/24", "2001:db8:77:1::1/64"),
    device("wan", `${HOME_WAN}/29`, "2001:db8:ff77::77/64"),
  ],
  // What is not the LAN of the delegated prefix is refused here, or it would circle between us and the provider.
  routes: [...everywhere("203.0.113.73", "2001:db8:ff77::1"), { to: "2001:db8:77::/48" }],
  resolvers: [ip("127.0.0.1")],
  search: "home",
  forwards: true,
  gateway: {
    lan: "lan",
    wan: "wan",
    wanAddress: HOME_WAN,
    lanPrefix: "198.18.77.0/24",
    lanPrefix6: "2001:db8:77:1::/64",
    dhcp: { first: ip("198.18.77.100"), last: ip("198.18.77.199"), leaseMinutes: 2 },
    reserved: [{ host: "home", address: EXIT }],
    forwards: [
      { protocol: "udp", port: 51820, to: EXIT },
      { protocol: "tcp", port: 443, to: EXIT },
      { protocol: "udp", port: 3478, to: EXIT },
      { protocol: "udp", port: 3479, to: EXIT },
    ],
    nat: "address-and-port-dependent",
    domain: "home",
  },
  names: [
    // The LAN's names are public here, unlike at a real home: a trace from the café through the exit node shows
    // this router whichever resolver it asks.
    named("home-router.home", "198.18.77.1", "2001:db8:77:1::1"),
    named("home-router.lab", HOME_WAN, "2001:db8:ff77::77"),
    // What it has at times (situation.ts); not under the name of what it always has.
    named("wan.home-router.lab", HOME_LISTED_WAN, "198.18.65.2"),
  ],
};

const pve1: Place = {
  name: "pve1",
  title: "the Proxmox VE host, its containers on vmbr0",
  devices: [device("eno1"), device("mgmt"), bridge("vmbr0", ["eno1", "mgmt"], `${PVE}/24`, "2001:db8:77:1::10/64")],
  routes: everywhere("198.18.77.1", "2001:db8:77:1::1"),
  resolvers: [ip("198.18.77.1")],
  search: "home",
  names: [named("pve1.home", PVE, "2001:db8:77:1::10")],
};

const nas: Place = {
  name: "nas",
  title: "a home server",
  devices: [device("eth0", "198.18.77.20/24", "2001:db8:77:1::20/64")],
  routes: everywhere("198.18.77.1", "2001:db8:77:1::1", "eth0"),
  resolvers: [ip("198.18.77.1")],
  search: "home",
  names: [named("nas.home", "198.18.77.20", "2001:db8:77:1::20")],
};

const web: Place = {
  name: "web",
  title: "a web server: whoami, downloads, the public DNS",
  devices: [device("eth0", `${WEB}/27`, `${PUBLIC_RESOLVER}/32`, `${WEB6}/64`, `${PUBLIC_RESOLVER6}/64`)],
  routes: everywhere("192.0.2.65", "2001:db8:80::1"),
  resolvers: [PUBLIC_RESOLVER],
  names: [named("web.lab whoami.lab download.lab", WEB, WEB6), named("dns.lab", PUBLIC_RESOLVER, PUBLIC_RESOLVER6)],
};

const vps: Place = {
  name: "vps",
  title: "a rented server, for a coordinator and relay",
  // The bridge is there for the container that can be this server: see vps.ts.
  devices: [device("eth0"), bridge("vmbr0", ["eth0"], `${VPS}/28`, `${VPS6}/64`)],
  routes: everywhere(VPS_GATEWAY, VPS_GATEWAY6),
  resolvers: [PUBLIC_RESOLVER],
  names: [named("vps.lab", VPS, VPS6)],
};

/** A phone's network: addresses are shared out by the carrier, whose NAT gives every destination another port. */
const mobile: Place = {
  name: "mobile",
  title: "a mobile network (carrier-grade NAT)",
  devices: [
    bridge("lan", [], "198.18.99.1/24", "2001:db8:99:1::1/64"),
    device("wan", `${MOBILE_WAN}/30`, "2001:db8:ffff:3::2/64"),
  ],
  routes: [...everywhere("192.0.2.129", "2001:db8:ffff:3::1"), { to: "2001:db8:99::/48" }],
  resolvers: [ip("127.0.0.1")],
  forwards: true,
  gateway: {
    lan: "lan",
    wan: "wan",
    wanAddress: MOBILE_WAN,
    lanPrefix: "198.18.99.0/24",
    lanPrefix6: "2001:db8:99:1::/64",
    dhcp: { first: ip("198.18.99.100"), last: ip("198.18.99.199"), leaseMinutes: 2 },
    reserved: [],
    forwards: [],
    nat: "symmetric",
  },
  names: [named("gw.mobile.lab", "198.18.99.1", MOBILE_WAN, "2001:db8:99:1::1", "2001:db8:ffff:3::2")],
};

export const topology: Topology = {
  places: [laptop, cafe, cafeIsp, core, homeIsp, home, pve1, nas, web, vps, mobile],
  links: [
    wire("laptop/eth0", "cafe/lan-laptop"),
    wire("cafe/wan", "cafe-isp/cafe"),
    wire("cafe-isp/core", "core/cafeisp"),
    wire("core/homeisp", "home-isp/core"),
    wire("home-isp/home", "home/wan"),
    wire("home/lan-pve1", "pve1/eno1"),
    wire("home/lan-nas", "nas/eth0"),
    wire("core/web", "web/eth0"),
    wire("core/vps", "vps/eth0"),
    wire("core/mobile", "mobile/wan"),
    wire(`${MACHINE}/exn-mgmt`, "pve1/mgmt"),
  ],
  machine: device("exn-mgmt", "198.18.77.254/24"),
};
