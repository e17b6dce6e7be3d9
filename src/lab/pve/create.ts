import { existsSync } from "node:fs";
import { removeDisk } from "./disk.js";
import { emptyConfig, splitOption } from "./guestconfig.js";
import type { Caller } from "./permission.js";
import { dropFromPools } from "./pool.js";
import { startTask } from "./power.js";
import type { Pve } from "./pve.js";
import { makeRoot, readRootFile, rootHas, unpack } from "./rootfs.js";
import { configureRoot, personalizeRoot } from "./setup.js";
import type { Disk } from "./storage.js";
import type { TaskLog } from "./task.js";

/** What the caller of create wanted, after all checks. */
export type Creation = {
  readonly vmid: number;
  readonly template: string;
  readonly storage: string;
  /** 0: a plain directory without a size of its own. */
  readonly sizeGib: number;
  /** The configuration's options, without rootfs. */
  readonly options: Record<string, string>;
  readonly sshKeys: string | undefined;
  readonly password: string | undefined;
  readonly start: boolean;
};

/** The largest file ext4 holds, in GiB: beyond it the genuine article cannot make the image. */
const DISK_GIB_MAX = 16 * 1024;

/** The task behind POST /nodes/N/lxc. On failure nothing of the container remains. */
export async function createContainer(
  pve: Pve,
  caller: Caller,
  creation: Creation,
  log: TaskLog,
  signal: AbortSignal,
): Promise<void> {
  const { vmid } = creation;
  const disk = pve.storages.get(creation.storage).newDisk(vmid, creation.sizeGib);
  try {
    const options = await pve.guests.locked(vmid, () => build(pve, creation, disk, log, signal));
    pve.guests.write(vmid, emptyConfig(options));
  } catch (error) {
    await removeDisk(pve, disk.volid);
    pve.guests.remove(vmid);
    dropFromPools(pve, vmid);
    const text = error instanceof Error ? error.message : String(error);
    if (text === "received interrupt") {
      log.line("ERROR: received interrupt");
      throw new Error(`unable to create CT ${vmid} - unable to create image: ${text}`);
    }
    log.line(text);
    throw new Error(`unable to create CT ${vmid} - ${text}`);
  }
  if (creation.start) startTask(pve, caller, vmid);
}

async function build(
  pve: Pve,
  creation: Creation,
  disk: Disk,
  log: TaskLog,
  signal: AbortSignal,
): Promise<Record<string, string>> {
  const { vmid, sizeGib } = creation;
  if (disk.format === "raw" && sizeGib > DISK_GIB_MAX)
    throw new Error(
      `unable to create image: qemu-img: ${disk.path}: The image size is too large for file format 'raw'`,
    );
  const archive = pve.storages.locate(creation.template).path;
  if (!existsSync(archive)) throw new Error(`volume '${creation.template}' does not exist`);
  makeRoot(disk.path);
  log.line(`extracting archive '${archive}'`);
  const [summary, hostKeys] = await Promise.all([
    unpack(disk.path, archive, signal, { say: (line) => log.line(line) }),
    pve.hostKeys(creation.options.hostname ?? `CT${vmid}`, signal),
  ]);
  log.line(summary);
  log.line("Detected container architecture: amd64");
  const release = (await readRootFile(disk.path, "/etc/os-release")) ?? "";
  const ostype = creation.options.ostype ?? /^ID="?(debian|ubuntu)"?$/m.exec(release)?.[1] ?? "unmanaged";
  const options: Record<string, string> = {
    ...creation.options,
    arch: creation.options.arch ?? "amd64",
    ostype,
    rootfs: `${disk.volid},size=${sizeGib === 0 ? "0T" : `${sizeGib}G`}`,
  };
  const keys = (await rootHas(disk.path, "/etc/ssh")) ? hostKeys : [];
  await configureRoot(disk.path, options, pve.resolver());
  await personalizeRoot(
    disk.path,
    creation,
    keys.flatMap((key) => key.files),
  );
  for (const key of keys) {
    log.line(`Creating SSH host key '${key.name}' - this may take some time ...`);
    log.line(`done: ${key.fingerprint}`);
  }
  const systemd = await rootHas(disk.path, "/usr/lib/systemd/systemd");
  if (systemd && splitOption(options.features ?? "").nesting !== "1")
    log.warn("Systemd 257 detected. You may need to enable nesting.");
  if (signal.aborted) throw new Error("received interrupt");
  return options;
}
