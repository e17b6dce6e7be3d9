import { renameSync } from "node:fs";
import { diskOf, type Placed, removeDisk, removeTree } from "./disk.js";
import { emptyConfig, settled, splitOption } from "./guestconfig.js";
import { withNewMac } from "./network.js";
import type { Caller } from "./permission.js";
import { dropFromPools } from "./pool.js";
import type { Pve } from "./pve.js";
import { copyRoot, writeRootFiles } from "./rootfs.js";
import { configureRoot } from "./setup.js";
import { copied } from "./snapshot.js";
import { sizeOf } from "./status.js";

/** What the caller of clone wanted, after all checks. */
export type Cloning = {
  readonly vmid: number;
  readonly newid: number;
  /** The options to copy: the container's, or those of a snapshot. */
  readonly source: Record<string, string>;
  readonly snapshot: string | undefined;
  readonly full: boolean;
  readonly storage: string;
  readonly hostname: string | undefined;
  readonly description: string | undefined;
};

/** The task behind POST /nodes/N/lxc/V/clone. SSH host keys stay those of the source, as there; the MAC is a new one. */
export function cloneTask(pve: Pve, caller: Caller, cloning: Cloning): string {
  const { vmid, newid, source, full } = cloning;
  return pve.tasks.start("vzclone", String(vmid), caller, async (log, signal) => {
    const from = diskOf(pve, source);
    const disk = pve.storages.get(cloning.storage).newDisk(newid, Math.ceil(sizeOf(source.rootfs ?? "") / 1024 ** 3));
    try {
      log.line(`creating a clone of container ${vmid} with ID ${newid}`);
      log.line(`create ${full ? "full" : "linked"} clone of mountpoint rootfs (${from.volid})`);
      await copyRoot(sourcePath(from, cloning.snapshot), disk.path, signal);
      // A linked clone's volume names what it hangs on.
      const base = from.volid.slice(from.volid.indexOf(":") + 1);
      const volid = full ? disk.volid : disk.volid.replace(":", `:${base}/`);
      const options = cloned(cloning, volid);
      await configureRoot(disk.path, options, pve.resolver());
      await writeRootFiles(disk.path, [{ path: "/etc/machine-id", content: "", mode: 0o644 }]);
      if (signal.aborted) throw new Error("received interrupt");
      pve.guests.write(newid, emptyConfig(options));
    } catch (error) {
      await removeDisk(pve, disk.volid);
      pve.guests.remove(newid);
      dropFromPools(pve, newid);
      throw new Error(`clone failed: ${error instanceof Error ? error.message : String(error)}`);
    } finally {
      if (pve.guests.has(vmid)) pve.guests.unlock(vmid);
    }
  });
}

function sourcePath({ storage, path }: Placed, snapshot: string | undefined): string {
  return snapshot === undefined ? path : storage.snapshotPath(path, snapshot);
}

function cloned({ source, hostname, description, newid }: Cloning, volid: string): Record<string, string> {
  const { rootfs = "", template: _, ...options } = copied(source);
  for (const key of Object.keys(options)) if (/^net\d+$/.test(key)) options[key] = withNewMac(options[key] ?? "");
  const { size = "" } = splitOption(rootfs);
  return {
    ...options,
    rootfs: `${volid},size=${size}`,
    hostname: hostname ?? options.hostname ?? `CT${newid}`,
    ...(description === undefined ? {} : { description: `${description.trimEnd()}\n` }),
  };
}

/** Turns a stopped container into a template: its disk gets another name and is no longer started from. */
export async function makeTemplate(pve: Pve, vmid: number): Promise<void> {
  const { config } = pve.guests.read(vmid);
  const { storage, path, volid } = diskOf(pve, config.options);
  const base = storage.baseOf(vmid, path);
  await removeTree(base.path);
  renameSync(path, base.path);
  const rootfs = (config.options.rootfs ?? "").replace(volid, base.volid);
  pve.guests.write(vmid, settled(config, { ...config.options, rootfs, template: "1" }));
}
