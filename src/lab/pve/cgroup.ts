import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { readProcess } from "./process.js";

/** Which hierarchies hold the controllers: version 1, hybrid with version 2, or version 2 alone. */
export type CgroupMode = "v1" | "v2";

const MOUNT = "/sys/fs/cgroup";

export function cgroupMode(): CgroupMode {
  return hierarchies().some((controllers) => controllers.split(",").includes("memory")) ? "v1" : "v2";
}

/** Controllers of every hierarchy this process is in; version 2 has an empty list. */
function hierarchies(): string[] {
  const lines = readFileSync("/proc/self/cgroup", "utf8")
    .split("\n")
    .filter((line) => line !== "");
  return lines.map((line) => line.split(":")[1] ?? "");
}

/**
 * What to put before lxc-start. `ip netns exec` gives its program a /sys without the control groups LXC needs: they
 * are mounted once more, in a mount namespace that only LXC's process is in. The network namespace stays.
 */
export function withCgroups(): readonly string[] {
  if (/ - cgroup2? /.test(readFileSync("/proc/self/mountinfo", "utf8"))) return [];
  const kinds = hierarchies();
  const script =
    kinds.length === 1 && kinds[0] === ""
      ? [`/bin/mount -t cgroup2 cgroup2 ${MOUNT}`]
      : [`/bin/mount -t tmpfs -o mode=755 tmpfs ${MOUNT}`, ...kinds.map(mountCommand)];
  const shell = ["/bin/sh", "-ec", `${script.join("\n")}\nexec "$@"`, "sh"];
  return ["/usr/bin/unshare", "--mount", "--propagation", "slave", ...shell];
}

function mountCommand(controllers: string): string {
  const name = controllers === "" ? "unified" : controllers.replace(/^name=/, "");
  const how =
    controllers === ""
      ? "-t cgroup2"
      : `-t cgroup -o ${controllers.startsWith("name=") ? `none,${controllers}` : controllers}`;
  return `/bin/mkdir ${MOUNT}/${name}\n/bin/mount ${how} cgroup ${MOUNT}/${name}`;
}

/** Sums up memory and swap in one limit: only then can swap be refused on version 1. */
export function swapAccounting(): boolean {
  return cgroupMode() === "v2" || existsSync(`${MOUNT}/memory/memory.memsw.limit_in_bytes`);
}

/**
 * A control group file of the container whose process 1 is `pid`, in whichever hierarchy has it. It is looked for as
 * LXC's monitor sees the file system, as this process may not see control groups at all.
 */
export function cgroupFile(monitor: number, pid: number, file: string): string | undefined {
  const controller = file.slice(0, file.indexOf("."));
  for (const line of (readProcess(pid, "cgroup") ?? "").split("\n")) {
    const [, controllers, path = ""] = line.split(":");
    if (controllers === undefined || (controllers !== "" && !controllers.split(",").includes(controller))) continue;
    // systemd in the container moves itself into /init.scope; the limits sit at the container's own group.
    const group = path.replace(/(\/lxc\.payload\.[^/]+).*/, "$1");
    for (const at of controllers === "" ? ["", "unified"] : [controllers, controller]) {
      const found = join(`/proc/${monitor}/root${MOUNT}`, at, group, file);
      if (existsSync(found)) return found;
    }
  }
  return undefined;
}
