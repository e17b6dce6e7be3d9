import { type Device, MACHINE, namespaceOf, type Place, type Route, type Topology } from "./internet.js";

/**
 * The topology as `ip -batch` text and sysctl settings, in the order in which they are applied: namespaces, sysctls
 * (so that every interface is born with them), wires, then each place on its own.
 */

export function renderNamespaces(topology: Topology): string {
  return lines(topology.places.map((place) => `netns add ${namespaceOf(place.name)}`));
}

/** Both ends of a wire are made inside the namespaces they belong to: no name of ours passes through the machine's. */
export function renderLinks(topology: Topology): string {
  return lines(
    topology.links.map(([left, right]) => {
      const [near, far] = [left, right].map((end) => {
        const inside = end.place === MACHINE ? "" : ` netns ${namespaceOf(end.place)}`;
        return `name ${end.device}${inside}`;
      });
      return `link add ${near} type veth peer ${far}`;
    }),
  );
}

/** For `ip -n NAMESPACE -batch -`. */
export function renderPlace(place: Place): string {
  return lines([
    "link set lo up",
    ...place.devices.flatMap(renderDevice),
    ...place.routes.map((route) => `route add ${renderRoute(route)}`),
  ]);
}

export function renderRoute({ to, via, dev, mtu }: Route): string {
  if (via === undefined && dev === undefined) return `unreachable ${to}`;
  const how = [via === undefined ? [] : ["via", via], dev === undefined ? [] : ["dev", dev]].flat();
  // The router is on the link, whatever a tunnel's rules say of the way to it: the kernel would ask them.
  if (via !== undefined && dev !== undefined) how.push("onlink");
  return [to, ...how, ...(mtu === undefined ? [] : ["mtu", String(mtu)])].join(" ");
}

/** Nobody else has the address, so it is usable at once. */
export function renderAddress(address: string, { name }: Device): string {
  return `${address} dev ${name}${isIp6(address) ? " nodad" : ""}`;
}

export function renderMachine(topology: Topology): string {
  return lines(renderDevice(topology.machine));
}

function renderDevice(device: Device): string[] {
  const made =
    device.ports === undefined
      ? []
      : [
          // A forwarding delay of 0, or each new port would learn for 15 s before it forwards. A fixed MAC address,
          // or the bridge would take over its lowest port's, and neighbours lose it whenever a container comes or
          // goes.
          `link add name ${device.name} address ${bridgeMac(device)} type bridge forward_delay 0 mcast_snooping 0`,
          ...device.ports.map((port) => `link set dev ${port} master ${device.name}`),
        ];
  return [
    ...made,
    ...device.addresses.map((address) => `address add ${renderAddress(address, device)}`),
    `link set dev ${device.name} up`,
  ];
}

/** Locally administered, and out of the bridge's IPv4 address, so that two bridges of one LAN differ. */
function bridgeMac(device: Device): string {
  const ip4 = device.addresses.find((address) => !isIp6(address)) ?? "0.0.0.0/0";
  const bytes = ip4.slice(0, ip4.indexOf("/")).split(".");
  return ["02", "00", ...bytes.map((byte) => Number(byte).toString(16).padStart(2, "0"))].join(":");
}

/**
 * What the kernel of a place must do, as path below /proc/sys/net and value. Set before any interface exists.
 * IPv4 settings of a new namespace are copied from the machine's, so what matters is said even where it is the
 * kernel's default.
 */
export function sysctlsOf(place: Place): [string, string][] {
  const forward = place.forwards === true ? "1" : "0";
  return [
    ["ipv4/ip_forward", forward],
    ["ipv6/conf/all/disable_ipv6", "0"],
    ["ipv6/conf/default/disable_ipv6", "0"],
    ["ipv6/conf/all/forwarding", forward],
    ["ipv6/conf/default/forwarding", forward],
    // Addresses and routes here are the topology's, and are usable at once.
    ["ipv6/conf/all/accept_ra", "0"],
    ["ipv6/conf/default/accept_ra", "0"],
    ["ipv6/conf/all/accept_dad", "0"],
    ["ipv6/conf/default/accept_dad", "0"],
    ["ipv4/conf/all/rp_filter", "0"],
    ["ipv4/conf/default/rp_filter", "0"],
    // Every hop answers every probe of a traceroute.
    ["ipv4/icmp_ratelimit", "0"],
    ["ipv6/icmp/ratelimit", "0"],
    ["ipv4/ping_group_range", "0 2147483647"],
  ];
}

/**
 * A bridge hands frames on and no more: where br_netfilter is loaded it would put them through the router's NAT, and a
 * port forward from one port of the LAN back to the same would be lost.
 */
const BRIDGES = "for file in /proc/sys/net/bridge/bridge-nf-call-*; do [ ! -e $file ] || echo 0 > $file; done";

/** A shell script, because it is one process where `sysctl` would be a package more. */
export function renderSysctls(settings: readonly (readonly [string, string])[]): string {
  return lines(["set -e", ...settings.map(([path, value]) => `echo ${value} > /proc/sys/net/${path}`), BRIDGES]);
}

/** The machine's end learns nothing from the home LAN: a router advertisement must not become its default route. */
export const MACHINE_SYSCTLS: readonly (readonly [string, string])[] = [["ipv6/conf/exn-mgmt/disable_ipv6", "1"]];

const isIp6 = (address: string): boolean => address.includes(":");

function lines(all: readonly string[]): string {
  return all.map((line) => `${line}\n`).join("");
}
