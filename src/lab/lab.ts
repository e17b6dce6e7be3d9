import { isDeepStrictEqual } from "node:util";
import { Failure } from "../kit/failure.js";
import type { Files } from "../sys/files.js";
import { type Container, listContainers } from "./containers.js";
import { type DaemonParts, findDaemon, logPath, startDaemon, stopDaemon } from "./daemons.js";
import { HOSTS_MAX, labHosts, withHosts } from "./hosts.js";
import { namespaceOf, type PortForward, type Topology } from "./internet.js";
import {
  buildNetwork,
  forgetComplete,
  markComplete,
  type NetworkState,
  observeNetwork,
  removeNetwork,
  reshapeNetwork,
} from "./network.js";
import { PLACES_DIR, RUN_DIR, STATE_DIR } from "./places.js";
import { type Access, prepareAccess } from "./pve/access.js";
import { readCertificate } from "./pve/certificate.js";
import { destroyAllContainers } from "./pve/containers.js";
import { planReshape } from "./reshape.js";
import { clearAfter, hasServiceFiles, servicesOf, writeServiceFiles } from "./services.js";
import { type Situation, situate, situationSchema, USUAL } from "./situation.js";
import { observeVps, removeVps, type Vps } from "./vps.js";

/** The lab as a whole: network, then daemons; and the same backwards. */

export type LabParts = DaemonParts & {
  /** How this very program is started: the Node executable and its entry. */
  readonly program: readonly string[];
  /** One line of progress. */
  say(line: string): void;
};

export type LabChange = {
  /** How to log in to each of the Proxmox hosts. Secret: not to be printed. */
  readonly accesses: readonly Access[];
  readonly built: boolean;
  readonly situation: Situation;
  readonly places: readonly string[];
  /** It was up, and is now in another situation. */
  readonly reshaped: boolean;
  readonly started: readonly string[];
  readonly running: readonly string[];
};

export type LabStatus = {
  readonly state: NetworkState;
  /** Null: nobody said so when it was raised. */
  readonly raisedFor: string | null;
  readonly situation: Situation;
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
  /** The rented server, when a container is it. */
  readonly vps: Vps | null;
  readonly forwards: readonly (PortForward & { readonly from: string })[];
};

/**
 * Converges from any state that a killed `lab up` leaves; a whole lab is left as it is, but for what `change` wants
 * to be different.
 */
export async function raiseLab(
  parts: LabParts,
  topology: Topology,
  change: (situation: Situation) => Situation,
  signal: AbortSignal,
  raisedFor?: string,
): Promise<LabChange> {
  const state = await observeLab(parts.files, topology);
  if (state === "damaged" || state === "outdated") {
    const why = state === "damaged" ? "parts of its network are gone" : "another version of exitnode raised it";
    throw new Failure(`lab-${state}`, `the lab is up, but ${why}`, { advice: "exitnode lab down && exitnode lab up" });
  }
  if (state === "partial") {
    parts.say("clearing what an unfinished lab left");
    await removeEverything(parts, topology);
  }
  const built = state !== "up";
  const reshaped = built ? undefined : await reshapeLab(parts, topology, change);
  const situation = reshaped?.situation ?? change(USUAL);
  const wanted = situate(topology, situation);
  if (built) {
    parts.say(`building an Internet of ${wanted.places.length} places`);
    await buildNetwork(parts, wanted, signal);
    await writeSituation(parts.files, situation);
    if (raisedFor !== undefined) await parts.files.write(RAISED_FOR, raisedFor);
  }
  const services = servicesOf(wanted, situation, parts.program);
  if (built) await Promise.all(services.map((service) => writeServiceFiles(parts.files, service)));
  // Before the server starts: both write the accounts.
  const accesses = await prepareAccesses(situation);
  if (built) parts.say(`starting ${services.map(({ name }) => name).join(", ")}`);
  const outcomes = await Promise.all(services.map((service) => startDaemon(parts, service)));
  if (built) await markComplete(parts.files, withHosts(topology, situation.hosts));
  return {
    accesses,
    built,
    situation,
    places: wanted.places.map(({ name }) => name),
    reshaped: reshaped?.changed ?? false,
    started: services.filter((_, i) => outcomes[i] === "started").map(({ name }) => name),
    running: services.filter((_, i) => outcomes[i] === "running").map(({ name }) => name),
  };
}

/** The hosts of a cluster have one set of accounts, and each its own certificate. */
async function prepareAccesses({ hosts, cluster }: Situation): Promise<Access[]> {
  const all = labHosts(hosts);
  const members = all.map(({ name }) => name);
  const [first] = all;
  if (!cluster || first === undefined)
    return Promise.all(all.map(({ stateDir, name }) => prepareAccess(stateDir, name)));
  const shared = await prepareAccess(first.stateDir, first.name, members);
  return Promise.all(
    all.map(async ({ stateDir, name }) => ({
      ...shared,
      fingerprint: (await readCertificate(stateDir, name)).fingerprint,
    })),
  );
}

/** The state of the lab that was last built, with as many hosts as it has. */
export async function observeLab(files: Files, topology: Topology): Promise<NetworkState> {
  return observeNetwork(files, withHosts(topology, (await readSituation(files)).hosts));
}

/** Makes another situation of a lab that is up. A router whose NAT changes forgets its connections, as a new one would. */
export async function reshapeLab(
  parts: LabParts,
  topology: Topology,
  change: (situation: Situation) => Situation,
): Promise<{ changed: boolean; situation: Situation }> {
  const now = await readSituation(parts.files);
  const situation = change(now);
  if (situation.hosts !== now.hosts || situation.cluster !== now.cluster) throw otherHosts(now);
  const unfinished = await readPending(parts.files);
  if (unfinished === undefined && isDeepStrictEqual(now, situation)) return { changed: false, situation };
  const [before, after] = [situate(topology, now), situate(topology, situation)];
  await parts.files.write(PENDING, JSON.stringify(situation));
  // Two machines with one address would answer for each other.
  if (now.vps && !situation.vps) await removeVps(parts);
  // What a change that was killed had done already goes first.
  if (unfinished !== undefined) await reshapeNetwork(parts.exec, planReshape(situate(topology, unfinished), after));
  await reshapeNetwork(parts.exec, planReshape(before, after));
  const wanted = servicesOf(after, situation, parts.program);
  for (const service of servicesOf(before, now, parts.program)) {
    if (wanted.some(({ name }) => name === service.name)) continue;
    await stopDaemon(parts, service.name);
    await clearAfter(parts.exec, service);
  }
  for (const service of wanted) {
    // Stopped first: a daemon that runs has the files that are there.
    if (!(await hasServiceFiles(parts.files, service))) await stopDaemon(parts, service.name);
    await writeServiceFiles(parts.files, service);
    await startDaemon(parts, service);
  }
  await writeSituation(parts.files, situation);
  await parts.files.remove(PENDING);
  return { changed: true, situation };
}

/** Hosts come and go with everything that is on them: that is another lab. */
function otherHosts({ hosts, cluster }: Situation): Failure {
  const has = hosts === 1 ? "one Proxmox host" : `${hosts} Proxmox hosts${cluster ? " in a cluster" : ""}`;
  return new Failure("lab-hosts-settled", `the lab is up with ${has}, which cannot change while it is`, {
    advice: "exitnode lab down && exitnode lab up --hosts N    (the containers in it are gone then)",
  });
}

/** The situation that a change is on its way to; there after a change that was killed. */
const PENDING = `${RUN_DIR}/situation.pending`;

async function readPending(files: Files): Promise<Situation | undefined> {
  const text = await files.readText(PENDING);
  return text === undefined ? undefined : situationSchema.parse(JSON.parse(text));
}

const SITUATION = `${RUN_DIR}/situation.json`;

export async function readSituation(files: Files): Promise<Situation> {
  const text = await files.readText(SITUATION);
  return text === undefined ? USUAL : situationSchema.parse(JSON.parse(text));
}

const writeSituation = (files: Files, situation: Situation): Promise<void> =>
  files.write(SITUATION, `${JSON.stringify(situation)}\n`);

const RAISED_FOR = `${RUN_DIR}/raised-for`;

/** Whoever says who they are keeps their hands off a lab that was not raised for them. An unfinished one is nobody's. */
export async function refuseAnothers(files: Files, topology: Topology, name: string): Promise<void> {
  const state = await observeLab(files, topology);
  if (state === "absent" || state === "partial") return;
  const owner = await files.readText(RAISED_FOR);
  if (owner === name) return;
  const how = owner === undefined ? "by hand" : `for ${owner}`;
  throw new Failure("lab-anothers", `the lab on this machine was raised ${how}, not for ${name}`, {
    advice: "exitnode lab down    (with everything that is in it)",
  });
}

/** From any state; false when there was nothing. Containers go before the bridge they hang on. */
export async function removeLab(parts: LabParts, topology: Topology, options: { purge: boolean }): Promise<boolean> {
  const state = await observeLab(parts.files, topology);
  await removeEverything(parts, topology);
  await parts.files.remove(options.purge ? STATE_DIR : PLACES_DIR);
  return state !== "absent";
}

async function removeEverything(parts: LabParts, topology: Topology): Promise<void> {
  await forgetComplete(parts.files);
  const largest = { ...USUAL, upnp: true, hosts: HOSTS_MAX };
  const whole = situate(topology, largest);
  const everything = servicesOf(whole, largest, parts.program);
  await Promise.all(everything.map(({ name }) => stopDaemon(parts, name)));
  await destroyAllContainers(...labHosts(HOSTS_MAX));
  await removeVps(parts);
  await removeNetwork(parts, whole);
}

export async function labStatus(parts: LabParts, base: Topology): Promise<LabStatus> {
  const situation = await readSituation(parts.files);
  const topology = situate(base, situation);
  const daemons = servicesOf(topology, situation, parts.program);
  const processes = await Promise.all(daemons.map(({ name }) => findDaemon(parts.files, name)));
  return {
    state: await observeLab(parts.files, base),
    raisedFor: (await parts.files.readText(RAISED_FOR)) ?? null,
    situation,
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
    vps: situation.vps ? observeVps() : null,
    containers: await listContainers(parts.files, situation.hosts),
    forwards: topology.places.flatMap(({ gateway }) =>
      (gateway?.forwards ?? []).map((forward) => ({ from: gateway?.wanAddress ?? "", ...forward })),
    ),
  };
}
