import { Failure } from "../kit/failure.js";
import type { Ip } from "../kit/ip.js";
import type { Millis } from "../kit/time.js";
import type { Guest, PveHost } from "../pve/guests.js";
import { upidParts } from "../pve/upid.js";
import type { Clock } from "../sys/clock.js";
import { hostKeyIn } from "./hostkey.js";
import { type Beside, readIdentity, TAG } from "./identity.js";
import type { Intent } from "./journal.js";
import type { OwnContainer } from "./view.js";

/** What the host tells of our containers. */

/** Every exit node of ours on the host; a tagged container without our line is somebody else's. */
export async function ownContainers(host: PveHost): Promise<OwnContainer[]> {
  const tagged = (await host.guests()).filter((guest) => guest.tags.includes(TAG));
  return (await own(host, tagged)).filter(({ identity }) => identity.beside === undefined);
}

/** One that stands beside an exit node. */
export type BesideContainer = OwnContainer & { readonly beside: Beside };

/** Ours by that name. One that lost its tag is found by its hostname; anybody else's of that name is no match. */
export async function findContainer(
  host: PveHost,
  guests: readonly Guest[],
  name: string,
): Promise<OwnContainer | undefined> {
  const candidates = guests.filter((guest) => guest.tags.includes(TAG) || guest.name === name);
  const named = (await own(host, candidates)).filter(({ identity }) => identity.name === name);
  const found = named.filter(({ identity }) => identity.beside === undefined);
  // A run was killed as it went back to a copy, or as it put a new container in the place of the one before.
  if (found.length === 0) return named.find(({ identity }) => isHeir(identity.beside, named));
  const [first, second] = found;
  if (second !== undefined)
    throw new Failure(
      "name-ambiguous",
      `containers ${found.map(({ vmid }) => vmid).join(" and ")} both say they are the exit node "${name}"`,
      {
        advice: "a clone keeps the description: delete the exitnode line in the description of the one that is not it",
      },
    );
  return first;
}

/** What it stood beside is gone, or has made room for it. */
function isHeir(beside: Beside | undefined, named: readonly OwnContainer[]): boolean {
  if (beside?.as === "copy") return true;
  return (
    beside?.as === "next" && named.some(({ vmid, identity }) => vmid === beside.of && identity.beside !== undefined)
  );
}

async function own(host: PveHost, guests: readonly Guest[]): Promise<OwnContainer[]> {
  const containers = guests.filter(({ type, template }) => type === "lxc" && !template);
  const read = await Promise.all(containers.map(({ node, vmid, status }) => readContainer(host, node, vmid, status)));
  return read.filter((container) => container !== undefined);
}

/** Undefined when it is gone, still being made, or not ours. */
export async function readContainer(
  host: PveHost,
  node: string,
  vmid: number,
  status?: string,
): Promise<OwnContainer | undefined> {
  const config = await host.config(node, vmid);
  const identity = config === undefined ? undefined : readIdentity(config.description);
  if (config === undefined || identity === undefined) return undefined;
  const running = (status ?? (await host.status(node, vmid))) === "running";
  return { vmid, node, running, identity, config };
}

/** Addresses of its first interface; those of a tunnel inside are no way to it. */
export async function addressesOf(host: PveHost, container: OwnContainer): Promise<readonly Ip[]> {
  const interfaces = await host.interfaces(container.node, container.vmid);
  return interfaces.find(({ name }) => name === "eth0")?.addresses ?? [];
}

/** The host key, from the log of the task that made the container; undefined when that log is gone or not ours. */
export async function hostKeyFromTasks(host: PveHost, node: string, vmid: number): Promise<string | undefined> {
  const upids = await host.tasks(node, vmid);
  // Newest first: a VMID may have been used before.
  const made = upids.find((upid) => upidParts(upid).type === "vzcreate");
  return made === undefined ? undefined : hostKeyIn(await host.taskLog(made));
}

/** A host unpacks a template in half a minute; a loaded one takes minutes. */
const CREATE_DEADLINE_MS: Millis = 10 * 60_000;
/** After a lost answer: how long a create may take to show. */
export const SHOW_DEADLINE_MS: Millis = 10_000;
const POLL_MS: Millis = 500;

/**
 * What became of a create whose end nobody saw: the container when it is there and ours, after waiting for a create
 * that still runs. Proxmox shows only a lock until then. Looking is all: nothing is sent twice.
 */
export async function settleIntent(
  host: PveHost,
  clock: Clock,
  intent: Intent,
  options: { readonly showWithinMs: Millis; readonly signal: AbortSignal },
): Promise<OwnContainer | undefined> {
  const startedAt = clock.now();
  for (;;) {
    const config = await host.config(intent.node, intent.vmid);
    const age = clock.now() - startedAt;
    if (config !== undefined && config.lock !== "create") {
      const container = await readContainer(host, intent.node, intent.vmid);
      return container?.identity.id === intent.id ? container : undefined;
    }
    if (config === undefined && age >= options.showWithinMs) return undefined;
    if (age >= CREATE_DEADLINE_MS)
      throw new Failure(
        "task-deadline",
        `container ${intent.vmid} is still being made after ${CREATE_DEADLINE_MS / 1_000} s`,
        {
          advice: "look at the task in the Proxmox GUI; when it has ended, run create again",
        },
      );
    await clock.sleep(POLL_MS, options.signal);
  }
}
