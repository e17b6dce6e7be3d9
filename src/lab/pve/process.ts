import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

/** Finding containers in /proc, without asking LXC: its sockets can only be reached from its network namespace. */

/** A file of /proc/PID; undefined once the process is gone. */
export function readProcess(pid: number, name: string): string | undefined {
  try {
    return readFileSync(`/proc/${pid}/${name}`, "utf8");
  } catch {
    return undefined;
  }
}

/** A zombie has ended. */
export function processAlive(pid: number): boolean {
  const stat = readProcess(pid, "stat");
  return stat !== undefined && !/\) [ZX] /.test(stat);
}

/** The process that lxc-start left behind for a container; it names itself in its command line. */
export function monitorPid(base: string, vmid: number): number | undefined {
  const pid = Number(readText(join(base, String(vmid), "pid")) ?? "0");
  const title = readProcess(pid, "cmdline")?.replaceAll("\0", " ").trim();
  return title === `[lxc monitor] ${base} ${vmid}` && processAlive(pid) ? pid : undefined;
}

/** The first child: process 1 of the container. */
export function childOf(pid: number): number | undefined {
  const children = readProcess(pid, `task/${pid}/children`)?.trim();
  const [first = ""] = children?.split(" ") ?? [];
  return first === "" ? undefined : Number(first);
}

/** Every process whose root directory is one of the containers below the folder, and LXC's monitors of them. */
export function processesOf(base: string, storageDir: string): { monitors: number[]; contained: number[] } {
  const monitors: number[] = [];
  const contained: number[] = [];
  for (const name of readdirSync("/proc")) {
    const pid = Number(name);
    if (!Number.isInteger(pid)) continue;
    if (readProcess(pid, "cmdline")?.startsWith(`[lxc monitor] ${base} `)) monitors.push(pid);
    else if (rootOf(pid)?.startsWith(`${storageDir}/`)) contained.push(pid);
  }
  return { monitors, contained };
}

/**
 * The directory of the host that is the process's "/". Field 4 of mountinfo is relative to its file system, so the
 * mount point of that file system on the host is put before it.
 */
function rootOf(pid: number): string | undefined {
  const fields = readProcess(pid, "mountinfo")
    ?.split("\n")
    .map((line) => line.split(" "))
    .find((line) => line[4] === "/");
  if (fields === undefined || fields[3] === "/") return undefined;
  const here = readFileSync("/proc/self/mountinfo", "utf8")
    .split("\n")
    .map((line) => line.split(" "));
  const mount = here.find((line) => line[2] === fields[2] && line[3] === "/");
  return join(mount?.[4] ?? "/", fields[3] ?? "");
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}
