import { SECOND } from "../../kit/time.js";
import { removeDisk } from "./disk.js";
import { refuseLocked } from "./guest.js";
import { settled, splitOption, withPending } from "./guestconfig.js";
import type { Caller } from "./permission.js";
import { dropFromPools } from "./pool.js";
import type { Pve } from "./pve.js";
import { configureRoot } from "./setup.js";
import { StartFailure } from "./startfailure.js";
import type { TaskLog } from "./task.js";

/** Starting, stopping and destroying, as tasks. */

export function startTask(pve: Pve, caller: Caller, vmid: number): string {
  return pve.tasks.start("vzstart", String(vmid), caller, (log) =>
    pve.guests.locked(vmid, () => startContainer(pve, vmid, log)),
  );
}

export async function startContainer(pve: Pve, vmid: number, log: TaskLog): Promise<void> {
  const { config } = pve.guests.read(vmid);
  refuseLocked(config);
  // A start that waited for another to finish finds the work done.
  if (pve.runtime.running(vmid) !== undefined) return;
  if (config.options.template === "1") throw new Error("you can't start a CT if it's a template");
  const options = withPending(config);
  const root = rootOf(pve, options);
  pve.guests.write(vmid, settled(config, options));
  await configureRoot(root, options, pve.resolver());
  try {
    await pve.runtime.start(vmid, root, options);
  } catch (error) {
    if (error instanceof StartFailure) for (const line of error.lines) log.line(line);
    throw error;
  }
}

export function stopTask(pve: Pve, caller: Caller, vmid: number): string {
  return pve.tasks.start("vzstop", String(vmid), caller, () =>
    pve.guests.locked(vmid, async () => {
      refuseLocked(pve.guests.read(vmid).config);
      await pve.runtime.kill(vmid);
    }),
  );
}

export function shutdownTask(
  pve: Pve,
  caller: Caller,
  vmid: number,
  options: { timeoutS: number; force: boolean },
): string {
  return pve.tasks.start("vzshutdown", String(vmid), caller, (_, signal) =>
    pve.guests.locked(vmid, () => shutdown(pve, vmid, options, signal)),
  );
}

export function rebootTask(pve: Pve, caller: Caller, vmid: number, timeoutS: number): string {
  return pve.tasks.start("vzreboot", String(vmid), caller, (log, signal) =>
    pve.guests.locked(vmid, async () => {
      await shutdown(pve, vmid, { timeoutS, force: false }, signal);
      await startContainer(pve, vmid, log);
    }),
  );
}

async function shutdown(
  pve: Pve,
  vmid: number,
  { timeoutS, force }: { timeoutS: number; force: boolean },
  signal: AbortSignal,
): Promise<void> {
  refuseLocked(pve.guests.read(vmid).config);
  if (await pve.runtime.shutdown(vmid, timeoutS * SECOND, signal)) return;
  if (signal.aborted) throw new Error("received interrupt");
  if (!force) throw new Error(`command 'lxc-stop -n ${vmid} --nokill --timeout ${timeoutS}' failed: exit code 1`);
  await pve.runtime.kill(vmid);
}

export function destroyTask(
  pve: Pve,
  caller: Caller,
  vmid: number,
  options: { force: boolean; purge: boolean },
): string {
  return pve.tasks.start("vzdestroy", String(vmid), caller, (log) =>
    pve.guests.locked(vmid, async () => {
      const { config } = pve.guests.read(vmid);
      refuseLocked(config);
      if (pve.runtime.running(vmid) !== undefined) {
        if (!options.force) throw new Error(`unable to destroy CT ${vmid} - container is running`);
        log.line(`forced to stop CT ${vmid} before destroying!`);
        await pve.runtime.kill(vmid);
      }
      const { volume = "" } = splitOption(config.options.rootfs ?? "");
      pve.storages.locate(volume);
      if (options.purge) log.line(`purging CT ${vmid} from related configurations..`);
      await removeDisk(pve, volume);
      pve.runtime.forget(vmid);
      pve.accounts.dropGrantsAt(`/vms/${vmid}`);
      dropFromPools(pve, vmid);
      pve.guests.remove(vmid);
      for (const mac of macsOf(config.options)) await pve.released(mac);
    }),
  );
}

function macsOf(options: Record<string, string>): string[] {
  const nets = Object.keys(options).filter((key) => /^net\d+$/.test(key));
  return nets.flatMap((key) => splitOption(options[key] ?? "").hwaddr ?? []);
}

/** Where the root directory is; throws the words of a rootfs that points at no volume. */
function rootOf(pve: Pve, options: Record<string, string>): string {
  return pve.storages.locate(splitOption(options.rootfs ?? "").volume ?? "").path;
}
