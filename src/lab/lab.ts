import { Failure } from "../kit/failure.js";
import { type Container, listContainers } from "./containers.js";
import { type Daemon, type DaemonParts, findDaemon, logPath, startDaemon, stopDaemon } from "./daemons.js";
import { neighbours, renderGatewayDns, renderHosts, renderPublicDns, resolvConf } from "./dnsmasq.js";
import {
  buildNetwork,
  forgetComplete,
  markComplete,
  type NetworkState,
  observeNetwork,
  removeNetwork,
} from "./network.js";
import { findPlace, PLACES_DIR, PVE_STATE_DIR, RUN_DIR, STATE_DIR, STORAGE_DIR } from "./places.js";
import { type Access, prepareAccess } from "./pve/access.js";
import { destroyAllContainers } from "./pve/containers.js";
import { HTTP_PORT, namespaceOf, type Place, type PortForward, PVE_NODE, PVE_PORT, type Topology } from "./topology.js";

/** The lab as a whole: network, then daemons; and the same backwards. */

export type LabParts = DaemonParts & {
  /** How this very program is started: the Node executable and its entry. */
  readonly program: readonly string[];
  /** One line of progress. */
  say(line: string): void;
};

export type LabChange = {
  /** How to log in to the Proxmox host. Secret: not to be printed. */
  readonly access: Access;
  readonly built: boolean;
  readonly started: readonly string[];
  readonly running: readonly string[];
};

export type LabStatus = {
  readonly state: NetworkState;
  readonly places: readonly {
    readonly name: string;
    readonly title: string;
    readonly namespace: string;
    readonly addresses: readonly string[];
  }[];
  readonly daemons: readonly {
    readonly name: string;
    readonly place: string;
    readonly pid: number | null;
    readonly log: string;
  }[];
  readonly containers: readonly Container[];
  readonly forwards: readonly (PortForward & { readonly from: string })[];
};

/** Converges from any state that a killed `lab up` leaves; a whole lab is left as it is. */
export async function raiseLab(parts: LabParts, topology: Topology, signal: AbortSignal): Promise<LabChange> {
  const state = await observeNetwork(parts.files, topology);
  if (state === "damaged" || state === "outdated") {
    const why = state === "damaged" ? "parts of its network are gone" : "another version of exitnode raised it";
    throw new Failure(`lab-${state}`, `the lab is up, but ${why}`, { advice: "exitnode lab down && exitnode lab up" });
  }
  if (state === "partial") {
    parts.say("clearing what an unfinished lab left");
    await removeEverything(parts, topology);
  }
  if (state !== "up") {
    parts.say(`building an Internet of ${topology.places.length} places`);
    await buildNetwork(parts, topology, signal);
  }
  const daemons = daemonsOf(topology, parts);
  if (state !== "up") await writeDaemonFiles(parts, topology);
  // Before the server starts: both write the accounts.
  const access = await prepareAccess(PVE_STATE_DIR, PVE_NODE);
  if (state !== "up") parts.say(`starting ${daemons.map(({ name }) => name).join(", ")}`);
  const outcomes = await Promise.all(daemons.map((daemon) => startDaemon(parts, daemon)));
  if (state !== "up") await markComplete(parts.files, topology);
  return {
    access,
    built: state !== "up",
    started: daemons.filter((_, i) => outcomes[i] === "started").map(({ name }) => name),
    running: daemons.filter((_, i) => outcomes[i] === "running").map(({ name }) => name),
  };
}

/** From any state; false when there was nothing. Containers go before the bridge they hang on. */
export async function removeLab(parts: LabParts, topology: Topology, options: { purge: boolean }): Promise<boolean> {
  const state = await observeNetwork(parts.files, topology);
  await removeEverything(parts, topology);
  await parts.files.remove(options.purge ? STATE_DIR : PLACES_DIR);
  return state !== "absent";
}

async function removeEverything(parts: LabParts, topology: Topology): Promise<void> {
  await forgetComplete(parts.files);
  await Promise.all(daemonsOf(topology, parts).map(({ name }) => stopDaemon(parts, name)));
  await destroyAllContainers({ stateDir: PVE_STATE_DIR, storageDir: STORAGE_DIR });
  await removeNetwork(parts, topology);
}

export async function labStatus(parts: LabParts, topology: Topology): Promise<LabStatus> {
  const daemons = daemonsOf(topology, parts);
  const processes = await Promise.all(daemons.map(({ name }) => findDaemon(parts.files, name)));
  return {
    state: await observeNetwork(parts.files, topology),
    places: topology.places.map((place) => ({
      name: place.name,
      title: place.title,
      namespace: namespaceOf(place.name),
      addresses: place.devices.flatMap(({ addresses }) => addresses),
    })),
    daemons: daemons.map(({ name, place }, i) => ({
      name,
      place,
      pid: processes[i]?.pid ?? null,
      log: logPath(name),
    })),
    containers: await listContainers(parts.files),
    forwards: topology.places.flatMap(({ gateway }) =>
      (gateway?.forwards ?? []).map((forward) => ({ from: gateway?.wanAddress ?? "", ...forward })),
    ),
  };
}

/** They start all at once, and each is waited for. */
function daemonsOf(topology: Topology, { program }: Pick<LabParts, "program">): Daemon[] {
  const dns = (place: Place): Daemon => ({
    name: `dns-${place.name}`,
    place: place.name,
    argv: ["dnsmasq", `--conf-file=${dnsConfPath(place)}`],
    listens: { protocol: "udp", port: 53 },
  });
  const own = (name: string, place: string, port: number): Daemon => ({
    name,
    place,
    argv: [...program, "lab", `serve-${name}`],
    listens: { protocol: "tcp", port },
  });
  return [
    ...topology.places.filter(servesDns).map(dns),
    own("web", "web", HTTP_PORT),
    own("nas", "nas", HTTP_PORT),
    own("pve", PVE_NODE, PVE_PORT),
  ];
}

const servesDns = (place: Place): boolean => place.gateway !== undefined || place.name === "web";
const dnsConfPath = (place: Place): string => `${RUN_DIR}/${place.name}.dnsmasq`;

async function writeDaemonFiles({ files }: LabParts, topology: Topology): Promise<void> {
  await Promise.all(
    topology.places.filter(servesDns).flatMap((place) => {
      const { gateway } = place;
      const named = gateway === undefined ? topology.places : neighbours(topology, gateway);
      const conf = gateway === undefined ? renderPublicDns(place, RUN_DIR) : renderGatewayDns(place, gateway, RUN_DIR);
      return [files.write(dnsConfPath(place), conf), files.write(`${RUN_DIR}/${place.name}.hosts`, renderHosts(named))];
    }),
  );
  // The Proxmox host's own resolver, which its containers get: the server sees the machine's files.
  await files.write(`${PVE_STATE_DIR}/resolv.conf`, resolvConf(findPlace(topology, PVE_NODE)));
}
