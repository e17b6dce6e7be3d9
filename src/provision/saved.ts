import { Failure } from "../kit/failure.js";
import type { PveHost } from "../pve/guests.js";
import { upidParts } from "../pve/upid.js";
import { readIdentity, type Save } from "./identity.js";
import type { OwnContainer } from "./view.js";

/** Whether what an upgrade can go back to is there: looked for on the host, by the name in the description. */
export async function isSaved(host: PveHost, { node, vmid, identity }: OwnContainer): Promise<boolean> {
  const { save } = identity;
  if (save === undefined) return false;
  switch (save.how) {
    case "snapshot":
      return (await host.snapshots(node, vmid)).some(({ name }) => name === save.name);
    case "backup":
      return (await backupsOf(host, node, vmid, save)).length > 0;
    default: {
      const config = await host.config(node, save.vmid);
      return config?.lock === undefined && readIdentity(config?.description ?? "")?.beside?.of === vmid;
    }
  }
}

/** Backups that an upgrade of ours made: more than one when an answer got lost. */
export async function backupsOf(
  host: PveHost,
  node: string,
  vmid: number,
  { name, storage }: Extract<Save, { how: "backup" }>,
): Promise<string[]> {
  const backups = await host.backups(node, storage, vmid);
  return backups.filter(({ notes }) => notes?.includes(name) === true).map(({ volid }) => volid);
}

const TASKS = new Set(["vzsnapshot", "vzrollback", "vzdelsnapshot", "vzdump", "vzclone", "vzrestore", "vzcreate"]);

/**
 * Waits for what was asked for earlier and has not ended, after a lost answer or a killed run. How it ended is seen
 * by looking at the host.
 */
export async function settleTasks(host: PveHost, node: string, vmid: number): Promise<void> {
  const newest = (await host.tasks(node, vmid)).find((upid) => TASKS.has(upidParts(upid).type));
  if (newest === undefined) return;
  await host.waitTask(newest).catch((error: unknown) => {
    if (!(error instanceof Failure) || error.code === "task-deadline" || error.code === "task-abandoned") throw error;
  });
}
