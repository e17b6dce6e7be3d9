import { existsSync } from "node:fs";
import { removeDisk } from "./disk.js";
import { emptyConfig, type GuestConfig, parseConfig, splitOption } from "./guestconfig.js";
import { withNewMac } from "./network.js";
import type { Caller } from "./permission.js";
import { dropFromPools } from "./pool.js";
import { startTask } from "./power.js";
import type { Pve } from "./pve.js";
import { makeRoot, readPacked, unpack } from "./rootfs.js";
import { configureRoot } from "./setup.js";
import { sizeOf } from "./status.js";
import type { Disk } from "./storage.js";
import type { TaskLog } from "./task.js";

/** What the caller of a restore wanted, after all checks. */
export type Restoration = {
  readonly vmid: number;
  readonly archive: string;
  /** Where the disk goes; its size is that of the backup unless given. */
  readonly storage: string;
  readonly sizeGib: number | undefined;
  /** Options that replace those of the backup. */
  readonly options: Record<string, string>;
  /** New MAC addresses. */
  readonly unique: boolean;
  readonly start: boolean;
};

const GIB = 1024 ** 3;
const CONFIG = "./etc/vzdump/pct.conf";

/** The configuration a backup was made with. */
export async function packedConfig(path: string): Promise<{ text: string; options: Record<string, string> }> {
  const text = await readPacked(path, CONFIG);
  if (text === undefined) throw new Error(`unable to find '${CONFIG}' in archive '${path}'`);
  return { text: text.replace(/\n+$/, "\n"), options: parseConfig(text).options };
}

/** The task behind POST /nodes/N/lxc with restore=1. A container that was there keeps its number, and loses its disk. */
export async function restoreContainer(
  pve: Pve,
  caller: Caller,
  wanted: Restoration,
  before: GuestConfig | undefined,
  log: TaskLog,
  signal: AbortSignal,
): Promise<void> {
  const { vmid, archive } = wanted;
  let disk: Disk | undefined;
  try {
    await pve.guests.locked(vmid, async () => {
      const { path } = pve.storages.locate(archive);
      if (!existsSync(path)) throw new Error(`volume '${archive}' does not exist`);
      log.line(`recovering backed-up configuration from '${archive}'`);
      const packed = (await packedConfig(path)).options;
      const sizeGib = wanted.sizeGib ?? sizeOf(packed.rootfs ?? "") / GIB;
      disk = pve.storages.get(wanted.storage).newDisk(vmid, sizeGib);
      makeRoot(disk.path);
      log.line(`restoring '${archive}' now..`);
      log.line(`extracting archive '${path}'`);
      log.line(await unpack(disk.path, path, signal, { without: ["./etc/vzdump/*"], say: (line) => log.line(line) }));
      log.line("merging backed-up and given configuration..");
      const options = merged(packed, wanted, { volid: disk.volid, sizeGib });
      await configureRoot(disk.path, options, pve.resolver());
      if (signal.aborted) throw new Error("received interrupt");
      const { volume: old = "" } = splitOption(before?.options.rootfs ?? "");
      if (old !== "") await removeDisk(pve, old);
      pve.guests.write(vmid, emptyConfig(options));
    });
  } catch (error) {
    if (disk !== undefined) await removeDisk(pve, disk.volid);
    // What was there before the attempt is there again.
    if (before !== undefined) pve.guests.write(vmid, before);
    else {
      pve.guests.remove(vmid);
      dropFromPools(pve, vmid);
    }
    throw new Error(`unable to restore CT ${vmid} - ${error instanceof Error ? error.message : String(error)}`);
  }
  if (wanted.start) startTask(pve, caller, vmid);
}

function merged(
  packed: Record<string, string>,
  wanted: Restoration,
  disk: { volid: string; sizeGib: number },
): Record<string, string> {
  const size = disk.sizeGib === 0 ? "0T" : `${disk.sizeGib}G`;
  const options: Record<string, string> = {
    ...packed,
    ...wanted.options,
    rootfs: `${disk.volid},size=${size}`,
  };
  delete options.template;
  for (const key of Object.keys(options)) {
    if (/^(?:mp|unused)\d+$/.test(key)) delete options[key];
    if (!/^net\d+$/.test(key) || !wanted.unique || wanted.options[key] !== undefined) continue;
    options[key] = withNewMac(options[key] ?? "");
  }
  return options;
}
