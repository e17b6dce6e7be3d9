import type { Ip } from "../kit/ip.js";

/** What the lab's Internet is made of: places, their interfaces, routers, providers and the links between them. */

/**
 * How a place reaches the Internet. The NATs are named by what RFC 4787 §4 (mapping) and §5 (filtering) ask of them:
 *
 *   open                        one-to-one, nothing is filtered, in neither family: a device without a firewall
 *   endpoint-independent        mapping and filtering both: "full cone"
 *   address-and-port-dependent  filtering; the mapping is endpoint-independent: an ordinary home router
 *   symmetric                   mapping and filtering both, with another random port per destination
 *   double                      an ordinary router behind the provider's own ordinary NAT
 *   udp-blocked                 an ordinary one that lets no UDP through
 *   ipv6-only                   no IPv4 Internet, and no NAT64 either
 *   ipv4-only                   an ordinary one, and no IPv6 at all
 */
export const NAT_KINDS = [
  "open",
  "endpoint-independent",
  "address-and-port-dependent",
  "symmetric",
  "double",
  "udp-blocked",
  "ipv6-only",
  "ipv4-only",
] as const;
export type NatKind = (typeof NAT_KINDS)[number];

export type PortForward = { readonly protocol: "udp" | "tcp"; readonly port: number; readonly to: string };

/** An interface of a place; an address is written with its prefix length, as `ip` wants it. */
export type Device = {
  readonly name: string;
  readonly addresses: readonly string[];
  /** A bridge of its own; the named devices of this place are its ports. */
  readonly ports?: readonly string[];
};

/** Without `via` and `dev` the destination is refused. */
export type Route = {
  readonly to: string;
  readonly via?: Ip;
  readonly dev?: string;
  /** The largest packet this way: a link of that MTU, as the two routers at its ends see it. */
  readonly mtu?: number;
};

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
  /** Where forwarded ports are reached: `wanAddress` alone unless there are more. */
  readonly publicAddresses?: readonly Ip[];
  readonly forwards: readonly PortForward[];
  readonly nat: NatKind;
  /** Serves UPnP-IGD, NAT-PMP and PCP to its LAN. */
  readonly upnp?: true;
  /** Tells nobody that a packet was too big: a black hole for path MTU discovery. */
  readonly muteTooBig?: true;
  /** The domain of its LAN, answered here and never asked upstream. */
  readonly domain?: string;
};

/** Ethernet's; nothing in the lab is larger. */
export const MTU = 1500;
/** What every IPv4 host must take in (RFC 791 §3.1). IPv6 is never narrowed below its own minimum. */
export const MTU_MIN = 576;
export const MTU_MIN6 = 1280;

export const LINE_STATES = ["up", "down", "direct-cut"] as const;
/** `direct-cut`: UDP to and from other homes vanishes, while servers stay reachable: how a direct path dies silently. */
export type LineState = (typeof LINE_STATES)[number];

/** What a provider does to the line of its one customer. */
export type Provider = {
  /** Its device at the line. */
  readonly line: string;
  readonly state: LineState;
  /** Of the packets that enter the line, per direction. */
  readonly lossPercent: number;
  readonly muteTooBig?: true;
  /** Carrier-grade NAT: the addresses it translates, and the one it has for them. */
  readonly carrier?: { readonly inside: string; readonly address: Ip; readonly device: string };
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
  readonly provider?: Provider;
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
export const PVE_PORT = 8006;
export const HTTP_PORT = 80;
/** Where the home router sends what arrives at its public address; reserved for the host name `home`. */
export const EXIT = "198.18.77.50" as Ip;
export const HOME_WAN = "203.0.113.77" as Ip;
/**
 * The home's public address while its router serves UPnP: miniupnpd refuses to map ports of a documentation address.
 * RFC 5737 §2 names 128.66.0.0/16 as another range that examples used; like all addresses here it stays inside.
 */
export const HOME_LISTED_WAN = "128.66.77.77" as Ip;
export const CAFE_WAN = "198.51.100.88" as Ip;
export const MOBILE_WAN = "192.0.2.130" as Ip;
export const VPS = "192.0.2.22" as Ip;
export const VPS6 = "2001:db8:22::22" as Ip;
export const VPS_GATEWAY = "192.0.2.17" as Ip;
export const VPS_GATEWAY6 = "2001:db8:22::1" as Ip;

export const ip = (text: string): Ip => text as Ip;
export const named = (name: string, ...addresses: string[]) => ({
  names: name.split(" "),
  addresses: addresses.map(ip),
});
export const device = (name: string, ...addresses: string[]): Device => ({ name, addresses });
export const bridge = (name: string, ports: string[], ...addresses: string[]): Device => ({ name, ports, addresses });
/** With its device where a tunnel may be: the kernel would find the next hop by the rules of the tunnel. */
export const via = (to: string, gateway: string, dev?: string): Route => ({
  to,
  via: ip(gateway),
  ...(dev === undefined ? {} : { dev }),
});
export const everywhere = (gateway: string, gateway6: string, dev?: string): Route[] => [
  via("0.0.0.0/0", gateway, dev),
  via("::/0", gateway6, dev),
];

export const wire = (left: string, right: string): readonly [LinkEnd, LinkEnd] => [endOf(left), endOf(right)];

function endOf(text: string): LinkEnd {
  const [place = "", name = ""] = text.split("/");
  return { place, device: name };
}
