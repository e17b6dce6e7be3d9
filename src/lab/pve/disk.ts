import { existsSync, mkdirSync, readdirSync, renameSync, rmdirSync } from "node:fs";
import { dirname } from "node:path";
import { splitOption } from "./guestconfig.js";
import { mustRunProgram } from "./program.js";
import type { Pve } from "./pve.js";
import { copyRoot } from "./rootfs.js";
import type { Feature, Storage } from "./storage.js";

/** Disks and their snapshots: directories, and copies of them. */

export type Placed = { readonly volid: string; readonly storage: Storage; readonly path: string };

/** The container's disk. Mount points are kept in configurations, but have no volume here. */
export function diskOf(pve: Pve, options: Record<string, string>): Placed {
  const { volume = "" } = splitOption(options.rootfs ?? "");
  return { volid: volume, ...pve.storages.locate(volume) };
}

/** Whether the storages of all the container's volumes can do it. */
export function hasFeature(pve: Pve, options: Record<string, string>, feature: Feature): boolean {
  const volumes = Object.keys(options).filter((key) => key === "rootfs" || /^mp\d+$/.test(key));
  return volumes.every((key) => {
    const { volume = "" } = splitOption(options[key] ?? "");
    if (volume.startsWith("/")) return false;
    const { storage, path } = pve.storages.locate(volume);
    return storage.can(feature, path);
  });
}

export async function takeSnapshotOf({ storage, path }: Placed, name: string, signal?: AbortSignal): Promise<void> {
  await copyRoot(path, fresh(storage.snapshotPath(path, name)), signal);
}

/** The copy is made first: a host without room for it keeps the disk as it was. */
export async function rollBack({ storage, path }: Placed, name: string): Promise<void> {
  const [beside, old] = [`${path}.new`, `${path}.old`];
  await removeTree(beside);
  try {
    await copyRoot(storage.snapshotPath(path, name), beside);
  } catch (error) {
    await removeTree(beside);
    throw error;
  }
  renameSync(path, old);
  renameSync(beside, path);
  await removeTree(old);
}

export async function dropSnapshotOf({ storage, path }: Placed, name: string): Promise<void> {
  const kept = storage.snapshotPath(path, name);
  await removeTree(kept);
  removeEmpty(dirname(kept));
}

/** The disk and every snapshot of it; one that is not there counts as removed. */
export async function removeDisk(pve: Pve, volid: string): Promise<void> {
  const { storage, path } = pve.storages.locate(volid);
  const folder = dirname(storage.snapshotPath(path, ""));
  const name = path.split("/").at(-1) ?? "";
  const snapshots = existsSync(folder) ? readdirSync(folder).filter((one) => one.startsWith(`${name}@`)) : [];
  for (const snapshot of snapshots) await removeTree(`${folder}/${snapshot}`);
  await removeTree(path);
  for (const each of [folder, dirname(path)]) removeEmpty(each);
}

/** By rm(1), which no link that a process swaps in meanwhile leads out of the tree. */
export async function removeTree(path: string): Promise<void> {
  await mustRunProgram(["/bin/rm", "-rf", "--one-file-system", "--", path]);
}

function fresh(path: string): string {
  mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
  return path;
}

function removeEmpty(folder: string): void {
  if (existsSync(folder) && readdirSync(folder).length === 0) rmdirSync(folder);
}
