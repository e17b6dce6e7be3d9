import { bridge, device, everywhere, ip, named, type Place, type Topology, wire } from "./internet.js";
import { PVE_STATE_DIR, RUN_DIR, STATE_DIR, STORAGE_DIR } from "./places.js";

/**
 * The Proxmox hosts of the home: `pve1` alone, or with others beside it on the same LAN. As a cluster they have one
 * server, pve1's, because accounts, tickets and tasks are theirs together; the others hand their connections on to it.
 */
export const HOSTS_MAX = 4;
export const CLUSTER_NAME = "home";
/** The release the lab's hosts are unless they are told to be an older one. */
export const PVE_VERSIONS = ["9.2", "8.4"] as const;

export type LabHost = {
  readonly name: string;
  readonly address: string;
  readonly address6: string;
  readonly stateDir: string;
  readonly storageDir: string;
  /** Where the cluster's server listens for this member. */
  readonly socket: string;
};

export function labHosts(count: number): LabHost[] {
  return Array.from({ length: count }, (_, i) => labHost(i + 1));
}

function labHost(number: number): LabHost {
  const name = `pve${number}`;
  const first = number === 1;
  return {
    name,
    address: `198.18.77.${9 + number}`,
    address6: `2001:db8:77:1::${9 + number}`,
    stateDir: first ? PVE_STATE_DIR : `${STATE_DIR}/${name}`,
    storageDir: first ? STORAGE_DIR : `${STATE_DIR}/storage-${name}`,
    socket: `${RUN_DIR}/${name}.socket`,
  };
}

/** The topology, which has pve1, with the others of so many hosts on the home's LAN. */
export function withHosts(topology: Topology, count: number): Topology {
  const others = labHosts(count).slice(1);
  if (others.length === 0) return topology;
  const ports = others.map(({ name }) => `lan-${name}`);
  const places = topology.places.flatMap((place): Place[] => {
    if (place.name === "pve1") return [place, ...others.map(hostPlace)];
    if (place.name !== "home") return [place];
    const devices = place.devices.map((one) =>
      one.name === "lan" ? { ...one, ports: [...(one.ports ?? []), ...ports] } : one,
    );
    return [{ ...place, devices: [...ports.map((port) => device(port)), ...devices] }];
  });
  const links = others.map(({ name }) => wire(`home/lan-${name}`, `${name}/eno1`));
  return { ...topology, places, links: [...topology.links, ...links] };
}

function hostPlace({ name, address, address6 }: LabHost): Place {
  return {
    name,
    title: "another Proxmox VE host, its containers on vmbr0",
    devices: [device("eno1"), bridge("vmbr0", ["eno1"], `${address}/24`, `${address6}/64`)],
    routes: everywhere("198.18.77.1", "2001:db8:77:1::1"),
    resolvers: [ip("198.18.77.1")],
    search: "home",
    names: [named(`${name}.home`, address, address6)],
  };
}
