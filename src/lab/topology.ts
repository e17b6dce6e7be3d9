import type { Ip } from "../kit/ip.js";

/**
 * The lab's Internet as data: places, the wires between them, addresses, routes and names. Everything else in this
 * folder is rendered from this value, so a picture of the lab is read here and nowhere else.
 *
 *   laptop ─ cafe ─ cafe-isp ─┐          ┌─ web
 *                             ├─  core  ─┤
 *   pve1 ─┬─ home ─ home-isp ─┘          └─ vps
 *   nas  ─┘
 *
 * Public IPv4 is out of the documentation ranges of RFC 5737, IPv6 out of RFC 3849's, private IPv4 out of the
 * benchmark range of RFC 2544: none of them can be a real neighbour's.
 */

/** How a router's NAT behaves, named as RFC 4787 §4 and §5 name it. */
export const NAT_KINDS = ["endpoint-independent", "address-and-port-dependent", "symmetric", "udp-blocked"] as const;
export type NatKind = (typeof NAT_KINDS)[number];

export type PortForward = { readonly protocol: "udp" | "tcp"; readonly port: number; readonly to: string };

/** An interface of a place; an address is written with its prefix length, as `ip` wants it. */
export type Device = {
  readonly name: string;
  readonly addresses: readonly string[];
  /** A bridge of its own; the named devices of this place are its ports. */
  readonly ports?: readonly string[];
};

export type Route = { readonly to: string; readonly via?: Ip };

/** What a home or café router does besides forwarding: NAT, a firewall, DHCP, router advertisements, DNS. */
export type Gateway = {
  readonly lan: string;
  readonly wan: string;
  readonly wanAddress: Ip;
  readonly lanPrefix: string;
  readonly lanPrefix6: string;
  readonly dhcp: { readonly first: Ip; readonly last: Ip; readonly leaseMinutes: number };
  /** Addresses kept for a host name. */
  readonly reserved: readonly { readonly host: string; readonly address: Ip }[];
  readonly forwards: readonly PortForward[];
  readonly nat: NatKind;
  /** The domain of its LAN, answered here and never asked upstream. */
  readonly domain?: string;
};

export type Place = {
  readonly name: string;
  readonly title: string;
  readonly devices: readonly Device[];
  readonly routes: readonly Route[];
  readonly resolvers: readonly Ip[];
  readonly search?: string;
  readonly forwards?: true;
  readonly gateway?: Gateway;
  /** Names for the addresses of this place, the first being the answer to a reverse look-up. */
  readonly names: readonly { readonly names: readonly string[]; readonly addresses: readonly Ip[] }[];
};

export type LinkEnd = { readonly place: string; readonly device: string };

/** The machine's own namespace, as the end of the one link that leaves the lab. */
export const MACHINE = "machine";

export type Topology = {
  readonly places: readonly Place[];
  readonly links: readonly (readonly [LinkEnd, LinkEnd])[];
  /** What the machine itself gets: the only interface of the lab that is not in a namespace of the lab. */
  readonly machine: Device;
};

export const namespaceOf = (place: string): string => `exn-${place.replace("-", "")}`;

export const PUBLIC_RESOLVER = "192.0.2.53" as Ip;
export const PUBLIC_RESOLVER6 = "2001:db8:80::53" as Ip;
export const WEB = "192.0.2.80" as Ip;
export const WEB6 = "2001:db8:80::80" as Ip;
export const PVE = "198.18.77.10" as Ip;
export const PVE_NODE = "pve1";
export const PVE_PORT = 8006;
export const HTTP_PORT = 80;
/** Where the home router sends what arrives at its public address; reserved for the host name `home`. */
export const EXIT = "198.18.77.50" as Ip;
export const HOME_WAN = "203.0.113.77" as Ip;
export const CAFE_WAN = "198.51.100.88" as Ip;

const ip = (text: string): Ip => text as Ip;
const named = (name: string, ...addresses: string[]) => ({ names: name.split(" "), addresses: addresses.map(ip) });
const device = (name: string, ...addresses: string[]): Device => ({ name, addresses });
const bridge = (name: string, ports: string[], ...addresses: string[]): Device => ({ name, ports, addresses });
const via = (to: string, gateway: string): Route => ({ to, via: ip(gateway) });
const everywhere = (gateway: string, gateway6: string): Route[] => [via("0.0.0.0/0", gateway), via("::/0", gateway6)];

const laptop: Place = {
  name: "laptop",
  title: "a laptop in a café",
  devices: [device("eth0", "198.18.88.50/24", "2001:db8:88:1::50/64")],
  routes: everywhere("198.18.88.1", "2001:db8:88:1::1"),
  resolvers: [ip("198.18.88.1")],
  names: [named("laptop.lab", "2001:db8:88:1::50")],
};

const cafe: Place = {
  name: "cafe",
  title: "the café's router (NAT)",
  devices: [
    device("lan", "198.18.88.1/24", "2001:db8:88:1::1/64"),
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
  names: [named("cafe-router.lab", "198.18.88.1", CAFE_WAN, "2001:db8:88:1::1", "2001:db8:ff88::88")],
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
  names: [named("gw.cafe-isp.lab", "198.51.100.81", "198.51.100.2", "2001:db8:ff88::1", "2001:db8:ffff:1::2")],
};

const core: Place = {
  name: "core",
  title: "the Internet between the providers",
  devices: [
    device("cafeisp", "198.51.100.1/30", "2001:db8:ffff:1::1/64"),
    device("homeisp", "203.0.113.1/30", "2001:db8:ffff:2::1/64"),
    device("web", "192.0.2.65/27", "2001:db8:80::1/64"),
    device("vps", "192.0.2.17/28", "2001:db8:22::1/64"),
  ],
  routes: [
    via("198.51.100.0/24", "198.51.100.2"),
    via("203.0.113.0/24", "203.0.113.2"),
    via(`${PUBLIC_RESOLVER}/32`, WEB),
    via("2001:db8:88::/48", "2001:db8:ffff:1::2"),
    via("2001:db8:ff88::/64", "2001:db8:ffff:1::2"),
    via("2001:db8:77::/48", "2001:db8:ffff:2::2"),
    via("2001:db8:ff77::/64", "2001:db8:ffff:2::2"),
  ],
  resolvers: [PUBLIC_RESOLVER],
  forwards: true,
  names: [
    named("core1.internet.lab", "198.51.100.1", "203.0.113.1", "192.0.2.65", "192.0.2.17"),
    named("core1.internet.lab", "2001:db8:ffff:1::1", "2001:db8:ffff:2::1", "2001:db8:80::1", "2001:db8:22::1"),
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
    via("2001:db8:77::/48", "2001:db8:ff77::77"),
  ],
  resolvers: [PUBLIC_RESOLVER],
  forwards: true,
  names: [named("gw.home-isp.lab", "203.0.113.73", "203.0.113.2", "2001:db8:ff77::1", "2001:db8:ffff:2::2")],
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
    ],
    nat: "address-and-port-dependent",
    domain: "home",
  },
  names: [
    // The LAN's names are public here, unlike at a real home: a trace from the café through the exit node shows
    // this router whichever resolver it asks.
    named("home-router.home", "198.18.77.1", "2001:db8:77:1::1"),
    named("home-router.lab", HOME_WAN, "2001:db8:ff77::77"),
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
  routes: everywhere("198.18.77.1", "2001:db8:77:1::1"),
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
  devices: [device("eth0", "192.0.2.22/28", "2001:db8:22::22/64")],
  routes: everywhere("192.0.2.17", "2001:db8:22::1"),
  resolvers: [PUBLIC_RESOLVER],
  names: [named("vps.lab", "192.0.2.22", "2001:db8:22::22")],
};

const wire = (left: string, right: string): readonly [LinkEnd, LinkEnd] => [endOf(left), endOf(right)];

function endOf(text: string): LinkEnd {
  const [place = "", name = ""] = text.split("/");
  return { place, device: name };
}

export const topology: Topology = {
  places: [laptop, cafe, cafeIsp, core, homeIsp, home, pve1, nas, web, vps],
  links: [
    wire("laptop/eth0", "cafe/lan"),
    wire("cafe/wan", "cafe-isp/cafe"),
    wire("cafe-isp/core", "core/cafeisp"),
    wire("core/homeisp", "home-isp/core"),
    wire("home-isp/home", "home/wan"),
    wire("home/lan-pve1", "pve1/eno1"),
    wire("home/lan-nas", "nas/eth0"),
    wire("core/web", "web/eth0"),
    wire("core/vps", "vps/eth0"),
    wire(`${MACHINE}/exn-mgmt`, "pve1/mgmt"),
  ],
  machine: device("exn-mgmt", "198.18.77.254/24"),
};
