import type { Exec } from "../sys/exec.js";
import type { Files } from "../sys/files.js";
import type { Daemon } from "./daemons.js";
import { neighbours, renderGatewayDns, renderHosts, renderPublicDns, resolvConf } from "./dnsmasq.js";
import { labHosts } from "./hosts.js";
import { HTTP_PORT, namespaceOf, type Place, PVE_PORT, type Topology } from "./internet.js";
import { findPlace, NETNS_DIR, RUN_DIR, TOOL_PATH } from "./places.js";
import type { Situation } from "./situation.js";
import { NAT_PMP_PORT, NO_UPNP_TABLE, renderUpnp, UPNP_TABLE } from "./upnp.js";

/** Which daemons a topology asks for, and the files each of them is started with. */
export type Service = Daemon & {
  readonly files: Readonly<Record<string, string>>;
  /** Rules for its place once it has ended. */
  readonly rulesAfter?: string;
};

/** They start all at once, and each is waited for. The topology is that of the situation. */
export function servicesOf(topology: Topology, situation: Situation, program: readonly string[]): Service[] {
  const own = (place: string): Service => ({
    name: place,
    place,
    argv: [...program, "lab", `serve-${place}`],
    listens: { protocol: "tcp", port: HTTP_PORT },
    files: {},
  });
  return [
    ...topology.places.filter(servesDns).map((place) => dns(topology, place)),
    own("web"),
    own("nas"),
    ...proxmox(topology, situation, program),
    ...topology.places.flatMap(upnp),
  ];
}

function proxmox(topology: Topology, { hosts, cluster, pveVersion }: Situation, program: readonly string[]): Service[] {
  const members = cluster ? ["--cluster", String(hosts)] : [];
  return labHosts(hosts).map(({ name, stateDir }) => ({
    name,
    place: name,
    argv: [...program, "lab", "serve-pve", name, ...members],
    listens: { protocol: "tcp", port: PVE_PORT },
    files: {
      // The host's own resolver, which its containers get: the server sees the machine's files.
      [`${stateDir}/resolv.conf`]: resolvConf(findPlace(topology, name)),
      [`${stateDir}/release`]: `${pveVersion}\n`,
    },
  }));
}

const servesDns = (place: Place): boolean => place.gateway !== undefined || place.name === "web";

function dns(topology: Topology, place: Place): Service {
  const { gateway } = place;
  const conf = `${RUN_DIR}/${place.name}.dnsmasq`;
  const named = gateway === undefined ? topology.places : neighbours(topology, gateway);
  return {
    name: `dns-${place.name}`,
    place: place.name,
    argv: ["dnsmasq", `--conf-file=${conf}`],
    listens: { protocol: "udp", port: 53 },
    files: {
      [conf]: gateway === undefined ? renderPublicDns(place, RUN_DIR) : renderGatewayDns(place, gateway, RUN_DIR),
      [`${RUN_DIR}/${place.name}.hosts`]: renderHosts(named),
    },
  };
}

function upnp({ name, gateway }: Place): Service[] {
  if (gateway?.upnp !== true) return [];
  const conf = `${RUN_DIR}/${name}.miniupnpd`;
  const table = `${RUN_DIR}/${name}.upnp.nft`;
  const start = 'nft -f "$1"; exec miniupnpd -d -f "$2" -P "$2.pid"';
  return [
    {
      name: `upnp-${name}`,
      place: name,
      argv: ["sh", "-ec", start, "sh", table, conf],
      listens: { protocol: "udp", port: NAT_PMP_PORT },
      files: { [conf]: renderUpnp(gateway), [table]: UPNP_TABLE },
      rulesAfter: NO_UPNP_TABLE,
    },
  ];
}

export async function hasServiceFiles(files: Files, service: Service): Promise<boolean> {
  const texts = await Promise.all(Object.keys(service.files).map((path) => files.readText(path)));
  return Object.values(service.files).every((text, i) => text === texts[i]);
}

export async function writeServiceFiles(files: Files, service: Service): Promise<void> {
  for (const [path, text] of Object.entries(service.files)) await files.write(path, text);
}

export async function clearAfter(exec: Exec, { place, rulesAfter }: Service): Promise<void> {
  if (rulesAfter === undefined) return;
  const net = `--net=${NETNS_DIR}/${namespaceOf(place)}`;
  await exec.run(["nsenter", net, "nft", "-f", "-"], { input: rulesAfter, env: { PATH: TOOL_PATH } });
}
