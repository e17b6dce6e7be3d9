import { SECOND } from "../../kit/time.js";
import { diskOf, dropSnapshotOf, hasFeature, rollBack, takeSnapshotOf } from "./disk.js";
import { refuseLocked } from "./guest.js";
import { emptyConfig, type GuestConfig } from "./guestconfig.js";
import type { Caller } from "./permission.js";
import { startTask } from "./power.js";
import type { Pve } from "./pve.js";
import type { TaskLog } from "./task.js";

/** Snapshots of a container, as tasks: the configuration is part of them, the description is not rolled back. */

/** What belongs to the container or to the snapshot itself, and is not copied between the two. */
const OWN = new Set(["description", "digest", "lock", "parent", "snapstate", "snaptime"]);

export function snapshotTask(pve: Pve, caller: Caller, vmid: number, name: string, description?: string): string {
  return pve.tasks.start("vzsnapshot", String(vmid), caller, (log, signal) =>
    takeSnapshot(pve, vmid, { name, description }, log, signal),
  );
}

async function takeSnapshot(
  pve: Pve,
  vmid: number,
  { name, description }: { name: string; description?: string | undefined },
  log: TaskLog,
  signal: AbortSignal,
): Promise<void> {
  await pve.guests.locked(vmid, async () => {
    const { config } = pve.guests.read(vmid);
    if (config.options.template === "1") throw new Error("you can't take a snapshot if it's a template");
    refuseLocked(config);
    if (config.snapshots.has(name)) throw new Error(`snapshot name '${name}' already used`);
    if (!hasFeature(pve, config.options, "snapshot")) throw new Error("snapshot feature is not available");
    config.snapshots.set(name, {
      ...copied(config.options),
      ...(config.options.parent === undefined ? {} : { parent: config.options.parent }),
      ...(description === undefined || description === "" ? {} : { description: `${description.trimEnd()}\n` }),
      snaptime: String(Math.floor(pve.now() / SECOND)),
      snapstate: "prepare",
    });
    config.options.lock = "snapshot";
    pve.guests.write(vmid, config);
  });
  try {
    await whileFrozen(pve, vmid, () => takeSnapshotOf(diskOf(pve, pve.guests.read(vmid).config.options), name, signal));
  } catch (error) {
    log.line("snapshot create failed: starting cleanup");
    await change(pve, vmid, async (config) => {
      await dropSnapshotOf(diskOf(pve, config.options), name);
      config.snapshots.delete(name);
      delete config.options.lock;
    });
    throw error;
  }
  await change(pve, vmid, async (config) => {
    delete config.snapshots.get(name)?.snapstate;
    config.options.parent = name;
    delete config.options.lock;
  });
}

export function rollbackTask(pve: Pve, caller: Caller, vmid: number, name: string, start: boolean): string {
  return pve.tasks.start("vzrollback", String(vmid), caller, async () => {
    await rollback(pve, vmid, name);
    // Its own task, which this one does not wait for.
    if (start) startTask(pve, caller, vmid);
  });
}

async function rollback(pve: Pve, vmid: number, name: string): Promise<void> {
  await pve.guests.locked(vmid, async () => {
    const { config } = pve.guests.read(vmid);
    if (config.options.template === "1") throw new Error("you can't rollback if vm is a template");
    const snapshot = known(config, name);
    requireNewest(pve, config, name);
    if (snapshot.snapstate !== undefined)
      throw new Error(`unable to rollback to incomplete snapshot (snapstate = ${snapshot.snapstate})`);
    refuseLocked(config);
    await pve.runtime.kill(vmid);
    config.options.lock = "rollback";
    pve.guests.write(vmid, config);
  });
  // What fails from here on leaves the lock, as there: half a rollback is nothing to start.
  const { config } = pve.guests.read(vmid);
  const snapshot = known(config, name);
  await rollBack(diskOf(pve, snapshot), name);
  const { description } = config.options;
  const kept = { ...(description === undefined ? {} : { description }), parent: name };
  pve.guests.write(vmid, { ...emptyConfig({ ...copied(snapshot), ...kept }), snapshots: config.snapshots });
}

/** ZFS goes back to its newest snapshot only. */
function requireNewest(pve: Pve, config: GuestConfig, name: string): void {
  const { storage, volid } = diskOf(pve, config.options);
  const taken = (one: string): number => Number(config.snapshots.get(one)?.snaptime ?? 0);
  const names = [...config.snapshots.keys()];
  const later = names.filter((one) => taken(one) > taken(name) || config.snapshots.get(one)?.parent === name);
  if (storage.entry.type === "zfspool" && later.length > 0)
    throw new Error(`can't rollback, '${name}' is not most recent snapshot on '${volid}'`);
}

export function deleteSnapshotTask(pve: Pve, caller: Caller, vmid: number, name: string): string {
  return pve.tasks.start("vzdelsnapshot", String(vmid), caller, async () => {
    await pve.guests.locked(vmid, async () => {
      const { config } = pve.guests.read(vmid);
      const snapshot = known(config, name);
      refuseLocked(config);
      snapshot.snapstate = "delete";
      config.options.lock = "snapshot-delete";
      pve.guests.write(vmid, config);
    });
    await change(pve, vmid, async (config) => {
      await dropSnapshotOf(diskOf(pve, known(config, name)), name);
      const before = config.snapshots.get(name)?.parent;
      config.snapshots.delete(name);
      for (const options of [config.options, ...config.snapshots.values()])
        if (options.parent === name) {
          delete options.parent;
          if (before !== undefined) options.parent = before;
        }
      delete config.options.lock;
    });
  });
}

/** Refuses with Proxmox's words when there is none of this name. */
export function known(config: GuestConfig, name: string): Record<string, string> {
  const snapshot = config.snapshots.get(name);
  if (snapshot === undefined) throw new Error(`snapshot '${name}' does not exist`);
  return snapshot;
}

/** Options as they go from the container to a snapshot and back. */
export const copied = (options: Record<string, string>): Record<string, string> =>
  Object.fromEntries(Object.entries(options).filter(([key]) => !OWN.has(key)));

/** What happens while the container's processes stand still sees all of its files at one moment. */
export async function whileFrozen<T>(pve: Pve, vmid: number, work: () => Promise<T>): Promise<T> {
  const frozen = pve.runtime.running(vmid) !== undefined;
  if (frozen) await pve.runtime.freeze(vmid, true);
  try {
    return await work();
  } finally {
    if (frozen) await pve.runtime.freeze(vmid, false);
  }
}

async function change(pve: Pve, vmid: number, edit: (config: GuestConfig) => Promise<void>): Promise<void> {
  await pve.guests.locked(vmid, async () => {
    const { config } = pve.guests.read(vmid);
    await edit(config);
    pve.guests.write(vmid, config);
  });
}
