import { chmodSync, existsSync, mkdirSync, readdirSync, renameSync, statSync, writeFileSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { SECOND } from "../../kit/time.js";
import { archiveName, setProtected, writeNotes } from "./archive.js";
import { diskOf, dropSnapshotOf, hasFeature, type Placed, removeTree, takeSnapshotOf } from "./disk.js";
import { refuseLocked } from "./guest.js";
import { emptyConfig, renderConfig, withPending } from "./guestconfig.js";
import { type Caller, mustHave } from "./permission.js";
import { startContainer } from "./power.js";
import type { Pve } from "./pve.js";
import { Refusal } from "./refusal.js";
import { copyRoot, pack } from "./rootfs.js";
import { whileFrozen } from "./snapshot.js";
import type { TaskLog } from "./task.js";

/** The task behind POST /nodes/N/vzdump. */
export type BackupJob = {
  readonly vmids: readonly number[];
  readonly storage: string;
  readonly mode: "snapshot" | "suspend" | "stop";
  readonly format: "tar" | "tar.gz" | "tar.zst";
  readonly notes: string | undefined;
  readonly protected: boolean;
  /** The job as a command line, for the log. */
  readonly command: string;
};

/** How long a container may take to shut down for a backup in stop mode. */
const STOP_WAIT_MS = 600 * SECOND;
/** vzdump's own snapshot; nobody may take one of this name. */
const SNAPSHOT = "vzdump";

export function backupTask(pve: Pve, caller: Caller, job: BackupJob): string {
  const id = job.vmids.length === 1 ? String(job.vmids[0]) : "";
  return pve.tasks.start("vzdump", id, caller, async (log, signal) => {
    const storage = pve.storages.get(job.storage);
    if (!storage.entry.content.includes("backup"))
      throw new Error(
        `could not get storage information for '${storage.id}': can't use storage '${storage.id}' for backups - wrong content type`,
      );
    for (const vmid of job.vmids) requireBackup(pve, caller, vmid);
    log.line(`INFO: starting new backup job: ${job.command}`);
    let failures = 0;
    for (const vmid of job.vmids)
      await backUp(pve, vmid, job, storage.folderOf("backup"), log, signal).catch((error: unknown) => {
        failures++;
        log.line(`ERROR: Backup of VM ${vmid} failed - ${error instanceof Error ? error.message : String(error)}`);
        log.line(`INFO: Failed at ${stamp(pve.now())}`);
      });
    log.line(failures === 0 ? "INFO: Backup job finished successfully" : "INFO: Backup job finished with errors");
    if (failures > 0) throw new Error("job errors");
  });
}

/** Checked inside the task, and told with the status it would have had outside. */
function requireBackup(pve: Pve, caller: Caller, vmid: number): void {
  try {
    mustHave(pve.accounts, caller, `/vms/${vmid}`, "VM.Backup");
  } catch (error) {
    if (error instanceof Refusal && pve.guests.has(vmid)) throw new Error(`${error.status} ${error.message}`);
    if (!(error instanceof Refusal)) throw error;
  }
}

async function backUp(
  pve: Pve,
  vmid: number,
  job: BackupJob,
  folder: string,
  log: TaskLog,
  signal: AbortSignal,
): Promise<void> {
  const info = (line: string): void => log.line(`INFO: ${line}`);
  if (!pve.guests.has(vmid)) throw new Error(`unable to find VM '${vmid}'`);
  const began = pve.now();
  const options = withPending(pve.guests.read(vmid).config);
  const running = pve.runtime.running(vmid) !== undefined;
  info(`Starting Backup of VM ${vmid} (lxc)`);
  info(`Backup started at ${stamp(began)}`);
  info(`status = ${running ? "running" : "stopped"}`);
  await pve.guests.locked(vmid, async () => {
    refuseLocked(pve.guests.read(vmid).config);
    pve.guests.lock(vmid, "backup");
  });
  const path = freeName(folder, vmid, began);
  const work = `${path}.tmp`;
  try {
    mkdirSync(join(work, "config/etc/vzdump"), { recursive: true, mode: 0o755 });
    const { lock: _, parent: __, ...kept } = options;
    writeFileSync(join(work, "config/etc/vzdump/pct.conf"), renderConfig(emptyConfig(kept)), { mode: 0o644 });
    chmodSync(work, 0o755);
    const disk = diskOf(pve, options);
    const packed = async (root: string): Promise<void> => {
      info(`creating vzdump archive '${path}.${job.format}'`);
      const archive = { path: `${path}.dat`, format: job.format };
      info(await pack(root, join(work, "config"), archive, signal));
      info(`archive file size: ${Math.round(statSync(archive.path).size / 1024 ** 2)}MB`);
      renameSync(archive.path, `${path}.${job.format}`);
      if (job.notes !== undefined) {
        info("adding notes to backup");
        writeNotes(
          `${path}.${job.format}`,
          filled(job.notes, { vmid, node: pve.nodeName, guestname: options.hostname }),
        );
      }
      if (job.protected) {
        info("marking backup as protected");
        setProtected(`${path}.${job.format}`, true);
      }
    };
    const mode = modeFor(pve, options, running ? job.mode : "stop", info, () => names(options, vmid, info));
    await MODES[mode]({ pve, vmid, disk, work, running, info, log, signal, packed });
  } finally {
    await removeTree(work);
    await rm(`${path}.dat`, { force: true });
    if (pve.guests.has(vmid)) pve.guests.unlock(vmid);
  }
  const seconds = Math.round((pve.now() - began) / SECOND);
  const clock = [Math.floor(seconds / 3_600), Math.floor(seconds / 60) % 60, seconds % 60];
  info(`Finished Backup of VM ${vmid} (${clock.map((part) => String(part).padStart(2, "0")).join(":")})`);
  info(`Backup finished at ${stamp(pve.now())}`);
}

/** Two backups of one container in one second: the later one is named as if it were a second younger. */
function freeName(folder: string, vmid: number, now: number): string {
  const present = existsSync(folder) ? readdirSync(folder) : [];
  for (let at = now; ; at += SECOND) {
    const name = archiveName(vmid, new Date(at));
    if (!present.some((one) => one.startsWith(name))) return join(folder, name);
  }
}

type Run = {
  readonly pve: Pve;
  readonly vmid: number;
  readonly disk: Placed;
  readonly work: string;
  readonly running: boolean;
  readonly info: (line: string) => void;
  readonly log: TaskLog;
  readonly signal: AbortSignal;
  readonly packed: (root: string) => Promise<void>;
};

/** A storage without snapshots makes "suspend" of "snapshot", and says so. */
function modeFor(
  pve: Pve,
  options: Record<string, string>,
  wanted: BackupJob["mode"],
  info: (line: string) => void,
  tellNames: () => void,
): BackupJob["mode"] {
  const fallsBack = wanted === "snapshot" && !hasFeature(pve, options, "snapshot");
  const mode = fallsBack ? "suspend" : wanted;
  if (fallsBack) {
    tellNames();
    info("mode failure - some volumes do not support snapshots");
    info("trying 'suspend' mode instead");
  }
  if (mode === "snapshot") tellNames();
  info(`backup mode: ${mode}`);
  info("ionice priority: 7");
  if (mode !== "snapshot") tellNames();
  return mode;
}

function names(options: Record<string, string>, vmid: number, info: (line: string) => void): void {
  info(`CT Name: ${options.hostname ?? `CT${vmid}`}`);
  info("including mount point rootfs ('/') in backup");
}

const MODES: Readonly<Record<BackupJob["mode"], (run: Run) => Promise<void>>> = {
  async snapshot({ pve, vmid, disk, info, signal, packed }) {
    info(`create storage snapshot '${SNAPSHOT}'`);
    if (disk.storage.entry.type === "btrfs") throw new Error("cannot mount subvol snapshots for storage type 'btrfs'");
    try {
      await whileFrozen(pve, vmid, () => takeSnapshotOf(disk, SNAPSHOT, signal));
      await packed(disk.storage.snapshotPath(disk.path, SNAPSHOT));
    } finally {
      info(`cleanup temporary storage snapshot '${SNAPSHOT}'`);
      await dropSnapshotOf(disk, SNAPSHOT);
    }
  },

  /** The genuine one copies twice, the second time frozen; here one frozen copy does. */
  async suspend({ pve, vmid, disk, work, info, signal, packed }) {
    const began = pve.now();
    const copy = join(work, "root");
    info("suspending guest");
    await whileFrozen(pve, vmid, async () => {
      info(`starting final sync /proc/${pve.runtime.running(vmid)?.pid}/root/ to ${work}`);
      await copyRoot(disk.path, copy, signal);
      info(`final sync finished - transferred 0 bytes in ${Math.round((pve.now() - began) / SECOND)}s`);
      info("resuming guest");
    });
    info(`guest is online again after ${Math.round((pve.now() - began) / SECOND)} seconds`);
    await packed(copy);
  },

  async stop({ pve, vmid, disk, running, info, log, signal, packed }) {
    const began = pve.now();
    if (running) {
      info("stopping virtual guest");
      if (!(await pve.runtime.shutdown(vmid, STOP_WAIT_MS, signal)))
        throw new Error(`command 'lxc-stop -n ${vmid} --nokill --timeout 600' failed: exit code 1`);
    }
    try {
      await packed(disk.path);
    } finally {
      if (running) {
        info("restarting vm");
        pve.guests.unlock(vmid);
        await startContainer(pve, vmid, log);
        info(`guest is online again after ${Math.round((pve.now() - began) / SECOND)} seconds`);
      }
    }
  },
};

/** {{vmid}}, {{node}}, {{guestname}}, {{cluster}} and the escapes \\n and \\\\. */
function filled(template: string, values: Readonly<Record<string, string | number | undefined>>): string {
  return template
    .replace(/\{\{(\w+)\}\}/g, (whole, name: string) => (name in values ? String(values[name] ?? "") : whole))
    .replace(/\\([n\\])/g, (_, escaped: string) => (escaped === "n" ? "\n" : "\\"));
}

function stamp(now: number): string {
  const date = new Date(now);
  const two = (value: number): string => String(value).padStart(2, "0");
  const day = [date.getFullYear(), two(date.getMonth() + 1), two(date.getDate())].join("-");
  return `${day} ${[date.getHours(), date.getMinutes(), date.getSeconds()].map(two).join(":")}`;
}
