import { type Gateway, type Place, PUBLIC_RESOLVER, PUBLIC_RESOLVER6, type Topology } from "./internet.js";

/**
 * dnsmasq three times: the public DNS on web, and DHCP, router advertisements and DNS on the home and café routers.
 * Names stand in hosts files, one line per address: dnsmasq answers a reverse look-up with the first name of the line.
 */

/** Every line ends up in a file that `--conf-file` reads; nothing of the machine's own dnsmasq applies. */
export function renderGatewayDns(place: Place, gateway: Gateway, runDir: string): string {
  const { dhcp, lan } = gateway;
  return lines([
    ...common(place, runDir),
    `interface=${lan}`,
    "bind-dynamic",
    `server=${PUBLIC_RESOLVER}`,
    `server=${PUBLIC_RESOLVER6}`,
    ...(gateway.domain === undefined ? [] : localDomain(gateway, gateway.domain)),
    "dhcp-authoritative",
    // Without it an offer waits 3 s for an echo from the address it offers.
    "no-ping",
    `dhcp-leasefile=${leasesPath(place.name, runDir)}`,
    `dhcp-range=${dhcp.first},${dhcp.last},${dhcp.leaseMinutes}m`,
    ...gateway.reserved.map(({ host, address }) => `dhcp-host=${host},${address}`),
    // The log would grow by a line for every renewal.
    "quiet-dhcp",
    "quiet-ra",
    ...(hasIp6(place, lan) ? advertising(gateway) : []),
  ]);
}

/** Stateless addresses (RFC 4862), named after the DHCPv4 lease of the same MAC address. */
const advertising = ({ lan, lanPrefix6 }: Gateway): string[] => [
  "enable-ra",
  `dhcp-range=${lanPrefix6.replace("/64", "")},ra-names,64,10m`,
  `ra-param=${lan},10,600`,
];

const hasIp6 = ({ devices }: Place, lan: string): boolean =>
  devices.some(({ name, addresses }) => name === lan && addresses.some((address) => address.includes(":")));

export const leasesPath = (place: string, runDir: string): string => `${runDir}/${place}.leases`;

function localDomain(gateway: Gateway, domain: string): string[] {
  const [a, b, c] = gateway.lanPrefix.split(".");
  return [`domain=${domain}`, "expand-hosts", `local=/${domain}/`, `local=/${c}.${b}.${a}.in-addr.arpa/`];
}

export function renderPublicDns(place: Place, runDir: string): string {
  return lines([
    ...common(place, runDir),
    `listen-address=${PUBLIC_RESOLVER}`,
    `listen-address=${PUBLIC_RESOLVER6}`,
    "bind-interfaces",
    // There is nothing beyond this Internet: any other name does not exist, rather than "refused".
    "address=/#/",
  ]);
}

function common(place: Place, runDir: string): string[] {
  return [
    "keep-in-foreground",
    "no-daemon",
    // It writes only its lease file, into a folder of root's.
    "user=root",
    "group=root",
    "pid-file=",
    "no-resolv",
    "no-hosts",
    `addn-hosts=${runDir}/${place.name}.hosts`,
  ];
}

/** The names of the given places, as a hosts file. */
export function renderHosts(places: readonly Place[]): string {
  return lines(
    places.flatMap((place) =>
      place.names.flatMap(({ names, addresses }) => addresses.map((address) => `${address} ${names.join(" ")}`)),
    ),
  );
}

/** The places whose names a router's own DNS answers: itself and its LAN. */
export function neighbours(topology: Topology, gateway: Gateway): Place[] {
  const inside = gateway.lanPrefix.replace(/0\/24$/, "");
  return topology.places.filter((place) =>
    place.devices.some(({ addresses }) => addresses.some((address) => address.startsWith(inside))),
  );
}

export function resolvConf(place: Place): string {
  return lines([
    ...place.resolvers.map((resolver) => `nameserver ${resolver}`),
    ...(place.search === undefined ? [] : [`search ${place.search}`]),
    "options timeout:2 attempts:2",
  ]);
}

/** What `ip netns exec` lays over the files of /etc in a place. */
export function placeEtc(place: Place): Record<string, string> {
  const own = place.names.flatMap(({ names, addresses }) => addresses.map((address) => `${address} ${names[0]}`));
  return {
    "resolv.conf": resolvConf(place),
    hosts: lines(["127.0.0.1 localhost", "::1 localhost", ...own]),
    // The machine's own may ask systemd-resolved over a Unix socket, which no network namespace keeps apart.
    "nsswitch.conf": lines([
      ..."passwd group shadow".split(" ").map((database) => `${database}: files systemd`),
      "hosts: files dns",
      ..."networks protocols services ethers rpc".split(" ").map((database) => `${database}: files`),
    ]),
  };
}

function lines(all: readonly string[]): string {
  return all.map((line) => `${line}\n`).join("");
}
