import { isDeepStrictEqual } from "node:util";
import { Failure } from "../kit/failure.js";
import type { Files } from "../sys/files.js";
import { type Container, listContainers } from "./containers.js";
import { type DaemonParts, findDaemon, logPath, startDaemon, stopDaemon } from "./daemons.js";
import { namespaceOf, type PortForward, PVE_NODE, type Topology } from "./internet.js";
import {
  buildNetwork,
  forgetComplete,
  markComplete,
  type NetworkState,
  observeNetwork,
  removeNetwork,
  reshapeNetwork,
} from "./network.js";
import { PLACES_DIR, PVE_STATE_DIR, RUN_DIR, STATE_DIR, STORAGE_DIR } from "./places.js";
import { type Access, prepareAccess } from "./pve/access.js";
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
  /** How to log in to the Proxmox host. Secret: not to be printed. */
  readonly access: Access;
  readonly built: boolean;
  readonly situation: Situation;
  /** It was up, and is now in another situation. */
  readonly reshaped: boolean;
  readonly started: readonly string[];
  readonly running: readonly string[];
};

export type LabStatus = {
  readonly state: NetworkState;
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
): Promise<LabChange> {
  const state = await observeNetwork(parts.files, topology);
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
    parts.say(`building an Internet of ${topology.places.length} places`);
    await buildNetwork(parts, wanted, signal);
    await writeSituation(parts.files, situation);
  }
  const services = servicesOf(wanted, parts.program);
  if (built) await Promise.all(services.map((service) => writeServiceFiles(parts.files, service)));
  // Before the server starts: both write the accounts.
  const access = await prepareAccess(PVE_STATE_DIR, PVE_NODE);
  if (built) parts.say(`starting ${services.map(({ name }) => name).join(", ")}`);
  const outcomes = await Promise.all(services.map((service) => startDaemon(parts, service)));
  if (built) await markComplete(parts.files, topology);
  return {
    access,
    built,
    situation,
    reshaped: reshaped?.changed ?? false,
    started: services.filter((_, i) => outcomes[i] === "started").map(({ name }) => name),
    running: services.filter((_, i) => outcomes[i] === "running").map(({ name }) => name),
  };
}

/** Makes another situation of a lab that is up. Connections that are under way keep what the kernel knows of them. */
export async function reshapeLab(
  parts: LabParts,
  topology: Topology,
  change: (situation: Situation) => Situation,
): Promise<{ changed: boolean; situation: Situation }> {
  const now = await readSituation(parts.files);
  const situation = change(now);
  const unfinished = await readPending(parts.files);
  if (unfinished === undefined && isDeepStrictEqual(now, situation)) return { changed: false, situation };
  const [before, after] = [situate(topology, now), situate(topology, situation)];
  await parts.files.write(PENDING, JSON.stringify(situation));
  // Two machines with one address would answer for each other.
  if (now.vps && !situation.vps) await removeVps(parts);
  // What a change that was killed had done already goes first.
  if (unfinished !== undefined) await reshapeNetwork(parts.exec, planReshape(situate(topology, unfinished), after));
  await reshapeNetwork(parts.exec, planReshape(before, after));
  const wanted = servicesOf(after, parts.program);
  for (const service of servicesOf(before, parts.program)) {
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

/** From any state; false when there was nothing. Containers go before the bridge they hang on. */
export async function removeLab(parts: LabParts, topology: Topology, options: { purge: boolean }): Promise<boolean> {
  const state = await observeNetwork(parts.files, topology);
  await removeEverything(parts, topology);
  await parts.files.remove(options.purge ? STATE_DIR : PLACES_DIR);
  return state !== "absent";
}

async function removeEverything(parts: LabParts, topology: Topology): Promise<void> {
  await forgetComplete(parts.files);
  const everything = servicesOf(situate(topology, { ...USUAL, upnp: true }), parts.program);
  await Promise.all(everything.map(({ name }) => stopDaemon(parts, name)));
  await destroyAllContainers({ stateDir: PVE_STATE_DIR, storageDir: STORAGE_DIR });
  await removeVps(parts);
  await removeNetwork(parts, topology);
}

export async function labStatus(parts: LabParts, base: Topology): Promise<LabStatus> {
  const situation = await readSituation(parts.files);
  const topology = situate(base, situation);
  const daemons = servicesOf(topology, parts.program);
  const processes = await Promise.all(daemons.map(({ name }) => findDaemon(parts.files, name)));
  return {
    state: await observeNetwork(parts.files, base),
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
    containers: await listContainers(parts.files),
    forwards: topology.places.flatMap(({ gateway }) =>
      (gateway?.forwards ?? []).map((forward) => ({ from: gateway?.wanAddress ?? "", ...forward })),
    ),
  };
}
