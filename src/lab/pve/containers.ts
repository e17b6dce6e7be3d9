import { existsSync, readdirSync, readFileSync, rmdirSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { Millis } from "../../kit/time.js";
import { lxcFolder } from "./lxc.js";
import { processAlive, processesOf } from "./process.js";

/** How long killed containers may take to disappear, all together. */
const DESTROY_WAIT_MS: Millis = 20_000;

/** How long the last processes of one container may take to leave its control groups. */
const GROUPS_WAIT_MS: Millis = 3_000;

/** Where a Proxmox host keeps what it has. */
export type HostFolders = { readonly stateDir: string; readonly storageDir: string };

/**
 * Ends every container below the hosts' folders and removes its configuration and root directory, with or without the
 * server, and after crashes of either. Templates, accounts and task logs stay. Answers which containers there were.
 * Several hosts at once, because control groups of one are named like another's container of the same number.
 */
export async function destroyAllContainers(...hosts: readonly HostFolders[]): Promise<number[]> {
  const bases = hosts.map(({ stateDir }) => lxcFolder(stateDir));
  const storages = hosts
    .flatMap(({ storageDir }) => names(storageDir).map((name) => join(storageDir, name)))
    .filter((path) => statSync(path).isDirectory());
  const disks = storages.flatMap((storage) => [join(storage, "images"), join(storage, "snapshots")]);
  const found = hosts.map(({ stateDir, storageDir }) => processesOf(lxcFolder(stateDir), storageDir));
  const monitors = found.flatMap((one) => one.monitors);
  const contained = found.flatMap((one) => one.contained);
  for (const pid of contained) kill(pid);
  const until = performance.now() + DESTROY_WAIT_MS;
  while ([...monitors, ...contained].some(processAlive)) {
    if (performance.now() > until) break;
    await delay(50);
  }
  // A monitor without a container has nothing left to clean.
  for (const pid of monitors) kill(pid);
  const guests = hosts.map(({ stateDir }) => join(stateDir, "guests"));
  const vmids = [...guests, ...disks]
    .flatMap(names)
    .map((name) => Number.parseInt(name, 10))
    .filter(Number.isInteger);
  for (const vmid of new Set(vmids)) await removeGroups(vmid);
  for (const folder of [...bases, ...guests, ...disks]) rmSync(folder, { recursive: true, force: true });
  return [...new Set(vmids)].sort((a, b) => a - b);
}

function kill(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // It ended by itself.
  }
}

/**
 * Control groups outlive a monitor that was killed; they are empty once the container's last process has quite ended.
 * Another container of that name, which somebody else runs, keeps its groups: it has processes.
 */
async function removeGroups(vmid: number): Promise<void> {
  const roots = ["/sys/fs/cgroup", ...names("/sys/fs/cgroup").map((name) => join("/sys/fs/cgroup", name))];
  // LXC puts "-1" and so on behind the name where another host of this machine has a container of that number.
  const name = new RegExp(`^lxc\\.(?:payload|monitor)\\.${vmid}(?:-\\d+)?$`);
  const groups = roots.flatMap((root) => names(root).flatMap((one) => (name.test(one) ? [join(root, one)] : [])));
  const until = performance.now() + GROUPS_WAIT_MS;
  while (!groups.every((group) => groupsBelow(group).every(isEmpty)) && performance.now() < until) await delay(50);
  for (const group of groups)
    if (groupsBelow(group).every(isEmpty)) for (const each of groupsBelow(group)) rmdirSync(each);
}

/** The group and all in it, innermost first: the order they can be removed in. */
function groupsBelow(group: string): string[] {
  if (!existsSync(group)) return [];
  const inner = readdirSync(group, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  return [...inner.flatMap((entry) => groupsBelow(join(group, entry.name))), group];
}

function isEmpty(group: string): boolean {
  return !existsSync(group) || readFileSync(join(group, "cgroup.procs"), "utf8") === "";
}

function names(folder: string): string[] {
  return existsSync(folder) && statSync(folder).isDirectory() ? readdirSync(folder) : [];
}
