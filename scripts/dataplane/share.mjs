// A share of one core as a control group, of version 1 or 2, whichever has the cpu controller on this machine.
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** As container managers set it. */
const PERIOD_US = 100_000;
const REMOVE_TIMEOUT_MS = 3_000;
const PAUSE_MS = 20;

/** Where groups are made; `version` tells which files they have. */
function controller() {
  const mounts = readFileSync("/proc/self/mounts", "utf8")
    .split("\n")
    .map((line) => line.split(" "));
  const one = mounts.find(([, , type, options]) => type === "cgroup" && options.split(",").includes("cpu"));
  if (one !== undefined) return { version: 1, folder: one[1] };
  for (const [, folder, type] of mounts) {
    if (type !== "cgroup2") continue;
    if (!readFileSync(join(folder, "cgroup.controllers"), "utf8").split(/\s+/).includes("cpu")) continue;
    writeFileSync(join(folder, "cgroup.subtree_control"), "+cpu");
    return { version: 2, folder };
  }
  throw new Error("this machine has no control group with the cpu controller: a share of a core cannot be set");
}

/** Makes or changes the group and gives its list of processes; whoever is written to it is limited. */
export function makeShare(name, percent) {
  const { version, folder } = controller();
  const group = join(folder, name);
  if (!existsSync(group)) mkdirSync(group);
  const quota = Math.round((PERIOD_US * percent) / 100);
  // It gets its share although the machine has other work: ten times the weight of one other process.
  if (version === 2) {
    writeFileSync(join(group, "cpu.max"), `${quota} ${PERIOD_US}`);
    writeFileSync(join(group, "cpu.weight"), "1000");
  } else {
    writeFileSync(join(group, "cpu.shares"), "10240");
    writeFileSync(join(group, "cpu.cfs_period_us"), String(PERIOD_US));
    writeFileSync(join(group, "cpu.cfs_quota_us"), String(quota));
  }
  return join(group, "cgroup.procs");
}

/** The processes have been killed; a group goes when the last of them is gone. */
export function removeShares(prefix) {
  const { folder } = controller();
  const until = Date.now() + REMOVE_TIMEOUT_MS;
  const names = readdirSync(folder).filter((name) => name.startsWith(prefix));
  for (const name of names) while (!removed(join(folder, name)) && Date.now() < until) pause();
}

function removed(group) {
  try {
    rmdirSync(group);
    return true;
  } catch (error) {
    return error.code === "ENOENT";
  }
}

/** Without the event loop: this also follows a signal. */
function pause() {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, PAUSE_MS);
}
