import { z } from "zod";
import { Failure } from "../kit/failure.js";
import { HOSTS_MAX, labHosts, PVE_VERSIONS, withHosts } from "./hosts.js";
import {
  type Device,
  device,
  everywhere,
  HOME_LISTED_WAN,
  ip,
  LINE_STATES,
  MTU,
  MTU_MIN,
  MTU_MIN6,
  NAT_KINDS,
  type NatKind,
  type Place,
  type Route,
  type Topology,
  via,
  wire,
} from "./internet.js";

/**
 * What can be different about the lab's Internet from one moment to the next, as one value; and the topology that
 * follows from it. Nothing of it is changed in place: a command makes another situation, and the difference between
 * the two topologies is what happens to the machine.
 */

export const SITES = ["cafe", "home"] as const;
export type Site = (typeof SITES)[number];
export const NETWORKS = ["cafe", "home", "mobile"] as const;
export type Network = (typeof NETWORKS)[number];

const mtu = z.number().int().min(MTU_MIN).max(MTU);

const siteSchema = z.strictObject({
  nat: z.enum(NAT_KINDS),
  link: z.enum(LINE_STATES),
  lossPercent: z.number().min(0).max(100),
  mtu,
  /** Nobody is told that a packet was too big for the line. */
  muteTooBig: z.boolean(),
});

export const situationSchema = z.strictObject({
  cafe: siteSchema,
  home: siteSchema,
  /** The home router forwards WireGuard's and the coordinator's ports to the exit node. */
  forward: z.boolean(),
  upnp: z.boolean(),
  /** A container is the rented server, and has its addresses. */
  vps: z.boolean(),
  laptopAt: z.enum(NETWORKS),
  /** How many Proxmox hosts the home has, and whether they are one cluster: settled when the lab is built. */
  hosts: z.number().int().min(1).max(HOSTS_MAX).default(1),
  cluster: z.boolean().default(false),
  /** Which release the hosts are; another one is as if they had been upgraded, with their containers running. */
  pveVersion: z.enum(PVE_VERSIONS).default("9.2"),
});

export type SiteSituation = Readonly<z.infer<typeof siteSchema>>;
export type Situation = Readonly<z.infer<typeof situationSchema>>;

const ORDINARY: SiteSituation = {
  nat: "address-and-port-dependent",
  link: "up",
  lossPercent: 0,
  mtu: MTU,
  muteTooBig: false,
};
export const USUAL: Situation = {
  cafe: ORDINARY,
  home: ORDINARY,
  forward: true,
  upnp: false,
  vps: false,
  laptopAt: "cafe",
  hosts: 1,
  cluster: false,
  pveVersion: "9.2",
};

export function parseNatKind(text: string): NatKind {
  const kind = text === "ordinary" ? ORDINARY.nat : NAT_KINDS.find((one) => one === text);
  if (kind !== undefined) return kind;
  throw new Failure("usage", `the kind of NAT must be ordinary or one of ${NAT_KINDS.join(", ")}, got "${text}"`, {
    advice: "exitnode lab nat cafe symmetric",
  });
}

/** The topology as it is in this situation; in the usual one it is the given one. */
export function situate(topology: Topology, situation: Situation): Topology {
  const moved = moveLaptop(withHosts(topology, situation.hosts), situation.laptopAt);
  const whole = situation.vps ? handOverVps(moved) : moved;
  return SITES.reduce((before, site) => situateSite(before, site, situation), whole);
}

function handOverVps(topology: Topology): Topology {
  const emptied = (place: Place): Place => ({
    ...place,
    devices: place.devices.map((one) => ({ ...one, addresses: [] })),
    routes: [],
  });
  return { ...topology, places: topology.places.map((place) => (place.name === "vps" ? emptied(place) : place)) };
}

const LAPTOP_PORT = "lan-laptop";

/** Addresses as each network's DHCP server and router advertisements would give them. */
const LAPTOP_IN: Record<Network, { host: number; prefix: string; prefix6: string; search?: string }> = {
  cafe: { host: 50, prefix: "198.18.88", prefix6: "2001:db8:88:1::" },
  home: { host: 60, prefix: "198.18.77", prefix6: "2001:db8:77:1::", search: "home" },
  mobile: { host: 50, prefix: "198.18.99", prefix6: "2001:db8:99:1::" },
};

function moveLaptop(topology: Topology, to: Network): Topology {
  if (to === "cafe") return topology;
  const { host, prefix, prefix6, search } = LAPTOP_IN[to];
  const from = NETWORKS.find((one) => one !== to && hasLaptop(topology, one));
  const places = topology.places.map((place): Place => {
    if (place.name === from) return { ...place, devices: withoutPort(place.devices) };
    if (place.name === to) return { ...place, devices: withPort(place.devices) };
    if (place.name !== "laptop") return place;
    return {
      ...place,
      devices: [device("eth0", `${prefix}.${host}/24`, `${prefix6}${host}/64`)],
      routes: everywhere(`${prefix}.1`, `${prefix6}1`, "eth0"),
      resolvers: [ip(`${prefix}.1`)],
      ...(search === undefined ? {} : { search }),
    };
  });
  const plug = wire("laptop/eth0", `${to}/${LAPTOP_PORT}`);
  return { ...topology, places, links: topology.links.map((link) => (link[0].place === "laptop" ? plug : link)) };
}

const hasLaptop = (topology: Topology, network: Network): boolean =>
  topology.places.some(({ name, devices }) => name === network && devices.some((one) => one.name === LAPTOP_PORT));

const withoutPort = (devices: readonly Device[]): Device[] =>
  devices
    .filter(({ name }) => name !== LAPTOP_PORT)
    .map((one) =>
      one.ports === undefined ? one : { ...one, ports: one.ports.filter((port) => port !== LAPTOP_PORT) },
    );

const withPort = (devices: readonly Device[]): Device[] => [
  device(LAPTOP_PORT),
  ...devices.map((one) => (one.name === "lan" ? { ...one, ports: [...(one.ports ?? []), LAPTOP_PORT] } : one)),
];

/**
 * The provider's own addresses for customers behind its NAT. Not 100.64.0.0/10, which RFC 6598 sets aside for that:
 * the tunnels of this project live there, and on Linux a device would have two routes to one range.
 */
const CARRIER: Record<Site, { prefix: string; address: string }> = {
  cafe: { prefix: "198.18.64", address: "198.51.100.120" },
  home: { prefix: "198.18.65", address: "203.0.113.120" },
};

function situateSite(topology: Topology, site: Site, situation: Situation): Topology {
  const own = situation[site];
  const members = site === "home" ? ["nas", ...labHosts(situation.hosts).map(({ name }) => name)] : [];
  if (situation.laptopAt === site) members.push("laptop");
  return {
    ...topology,
    places: topology.places.map((place) => {
      if (place.name === site) return router(place, site, situation);
      if (place.name === `${site}-isp`) return provider(place, topology, site, situation);
      if (!members.includes(place.name)) return place;
      if (own.nat === "ipv4-only") return onlyFamily(place, 4);
      // Proxmox and the home server keep their private IPv4 addresses, by which they are administered.
      if (own.nat === "ipv6-only" && place.name === "laptop") return withResolver(onlyFamily(place, 6));
      return place;
    }),
  };
}

function router(place: Place, site: Site, situation: Situation): Place {
  const { gateway } = place;
  if (gateway === undefined) return place;
  const { nat, mtu, muteTooBig } = situation[site];
  const { prefix } = CARRIER[site];
  const upnp = site === "home" && situation.upnp;
  let wanAddress = gateway.wanAddress;
  let { devices, routes } = place;
  const wan = (change: (one: Device) => Device): void => {
    devices = devices.map((one) => (one.name === gateway.wan ? change(one) : one));
  };
  if (nat === "double") {
    wanAddress = ip(`${prefix}.2`);
    wan((one) => ({ ...one, addresses: [`${wanAddress}/29`, ...one.addresses.filter(isIp6)] }));
    routes = routes.map((route) => (route.to === "0.0.0.0/0" ? via(route.to, `${prefix}.1`) : route));
  } else if (isListed(site, situation)) {
    wanAddress = HOME_LISTED_WAN;
    wan((one) => ({ ...one, addresses: [...one.addresses, `${wanAddress}/32`] }));
  }
  if (nat === "ipv6-only") {
    wan((one) => ({ ...one, addresses: one.addresses.filter(isIp6) }));
    routes = routes.filter(({ to }) => isIp6(to));
  }
  if (nat === "ipv4-only") {
    devices = devices.map((one) => ({ ...one, addresses: one.addresses.filter((address) => !isIp6(address)) }));
    routes = routes.filter(({ to }) => !isIp6(to));
  }
  return {
    ...place,
    devices,
    routes: routes.map((route) => (route.via === undefined ? route : narrow(route, mtu))),
    gateway: {
      ...gateway,
      nat,
      wanAddress,
      ...(isListed(site, situation) ? { publicAddresses: [gateway.wanAddress, wanAddress] } : {}),
      forwards: situation.forward ? gateway.forwards : [],
      ...(upnp ? { upnp } : {}),
      ...(muteTooBig ? { muteTooBig } : {}),
    },
  };
}

const isListed = (site: Site, { upnp, home }: Situation): boolean =>
  site === "home" && upnp && home.nat !== "double" && home.nat !== "ipv6-only";

function provider(place: Place, topology: Topology, site: Site, situation: Situation): Place {
  const own = situation[site];
  const customer = topology.places.find(({ name }) => name === site)?.gateway;
  if (place.provider === undefined || customer === undefined) return place;
  const { line } = place.provider;
  const { prefix, address } = CARRIER[site];
  const double = own.nat === "double";
  const toCustomer = own.mtu === MTU ? [] : [{ to: `${double ? `${prefix}.2` : customer.wanAddress}/32`, dev: line }];
  const listed = isListed(site, situation) ? [via(`${HOME_LISTED_WAN}/32`, customer.wanAddress)] : [];
  return {
    ...place,
    devices: place.devices.map((one) =>
      double && one.name === line ? { ...one, addresses: [...one.addresses, `${prefix}.1/29`] } : one,
    ),
    routes: [
      ...[...place.routes, ...listed].map((route) => (leadsToCustomer(route) ? narrow(route, own.mtu) : route)),
      ...toCustomer.map((route) => narrow(route, own.mtu)),
    ],
    provider: {
      line,
      state: own.link,
      lossPercent: own.lossPercent,
      ...(own.muteTooBig ? { muteTooBig: true } : {}),
      ...(double ? { carrier: { inside: `${prefix}.0/29`, address: ip(address), device: "core" } } : {}),
    },
  };
}

const leadsToCustomer = ({ to, via: next }: Route): boolean =>
  next !== undefined && to !== "0.0.0.0/0" && to !== "::/0";

const narrow = (route: Route, mtu: number): Route =>
  mtu === MTU ? route : { ...route, mtu: isIp6(route.to) ? Math.max(mtu, MTU_MIN6) : mtu };

const onlyFamily = (place: Place, family: 4 | 6): Place => ({
  ...place,
  devices: place.devices.map((one) => ({
    ...one,
    addresses: one.addresses.filter((address) => isIp6(address) === (family === 6)),
  })),
  routes: place.routes.filter(({ to }) => isIp6(to) === (family === 6)),
});

/** Its router by IPv6: the next hop of its default route. */
const withResolver = (place: Place): Place => ({
  ...place,
  resolvers: place.routes.flatMap((route) => (route.to === "::/0" && route.via !== undefined ? [route.via] : [])),
});

const isIp6 = (text: string): boolean => text.includes(":");
