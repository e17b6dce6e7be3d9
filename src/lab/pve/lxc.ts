import { chmodSync, chownSync, existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { Millis } from "../../kit/time.js";
import { cgroupFile, cgroupMode, swapAccounting, withCgroups } from "./cgroup.js";
import { splitOption } from "./guestconfig.js";
import { devices, type LxcFacts, limitValues, netKeys, renderLxcConfig, renderUpScript } from "./lxcconfig.js";
import { childOf, monitorPid, processAlive, readProcess } from "./process.js";
import { ID_BASE, mustRunProgram, runProgram } from "./program.js";
import type { Running, Runtime } from "./runtime.js";
import { StartFailure } from "./startfailure.js";

/** How long a killed container may take to disappear. */
const KILL_WAIT_MS: Millis = 15_000;
const POLL_MS: Millis = 50;
/** How long a busy container may take to stand still. */
const FREEZE_WAIT_MS: Millis = 5_000;
/** glibc's SIGRTMIN+3: systemd halts. */
const SIGNAL_HALT = 37;

/** Where LXC keeps container 101: `<stateDir>/lxc/101/config`, its scripts, devices and log beside it. */
export const lxcFolder = (stateDir: string): string => join(stateDir, "lxc");

/** Containers by LXC. `enter` goes before lxc-start: how to reach the right namespaces, if this process is not there. */
export function lxcRuntime(stateDir: string, enter: readonly string[] = withCgroups()): Runtime {
  const base = lxcFolder(stateDir);
  const folderOf = (vmid: number): string => join(base, String(vmid));
  const initOf = (vmid: number): number | undefined => {
    const monitor = monitorPid(base, vmid);
    return monitor === undefined ? undefined : childOf(monitor);
  };

  return {
    running(vmid) {
      const monitor = monitorPid(base, vmid);
      const pid = monitor === undefined ? undefined : childOf(monitor);
      return monitor === undefined || pid === undefined ? undefined : readRunning(monitor, pid);
    },

    async start(vmid, root, options) {
      const folder = folderOf(vmid);
      rmSync(folder, { recursive: true, force: true });
      mkdirSync(folder, { recursive: true, mode: 0o755 });
      for (const key of netKeys(options)) {
        await requireBridge(enter, splitOption(options[key] ?? "").bridge);
        writeFileSync(join(folder, `${key}-up`), renderUpScript(options[key] ?? ""), { mode: 0o755 });
      }
      for (const device of devices(options)) await makeNode(folder, device);
      writeFileSync(join(folder, "config"), renderLxcConfig(vmid, root, options, lxcFacts(folder)));
      const log = join(folder, "log");
      const argv = ["/usr/bin/lxc-start", "-P", base, "-n", String(vmid), "-d", "-p", join(folder, "pid")];
      const ran = await runProgram([...enter, ...argv, "-o", log, "-l", "WARN", "-L", join(folder, "console")]);
      if (ran.exitCode !== 0 || initOf(vmid) === undefined)
        throw new StartFailure(`startup for container '${vmid}' failed`, errorLines(log));
    },

    async kill(vmid) {
      const pid = initOf(vmid);
      const monitor = monitorPid(base, vmid);
      if (pid !== undefined) process.kill(pid, "SIGKILL");
      if (monitor !== undefined && !(await gone(monitor, KILL_WAIT_MS))) throw new Error(`CT ${vmid} did not stop`);
    },

    async shutdown(vmid, timeoutMs, signal) {
      const pid = initOf(vmid);
      const monitor = monitorPid(base, vmid);
      if (pid === undefined || monitor === undefined) return true;
      process.kill(pid, SIGNAL_HALT);
      return gone(monitor, timeoutMs, signal);
    },

    async freeze(vmid, frozen) {
      const pid = initOf(vmid);
      const monitor = monitorPid(base, vmid);
      if (pid === undefined || monitor === undefined) return;
      const old = cgroupFile(monitor, pid, "freezer.state");
      const path = old ?? cgroupFile(monitor, pid, "cgroup.freeze");
      if (path === undefined) throw new Error(`CT ${vmid} cannot be frozen: its control group has no freezer`);
      writeFileSync(path, old === undefined ? (frozen ? "1" : "0") : frozen ? "FROZEN" : "THAWED");
      // Version 1 says FREEZING until the last process stands still.
      const until = performance.now() + FREEZE_WAIT_MS;
      while (frozen && readFileSync(path, "utf8").trim() === "FREEZING" && performance.now() < until) await delay(10);
    },

    async addresses(vmid) {
      const pid = initOf(vmid);
      if (pid === undefined) return "[]";
      return (await mustRunProgram(["/usr/bin/nsenter", `--net=/proc/${pid}/ns/net`, "/sbin/ip", "--json", "a"]))
        .stdout;
    },

    async update(vmid, before, after) {
      const pid = initOf(vmid);
      const monitor = monitorPid(base, vmid);
      if (pid === undefined || monitor === undefined) return;
      for (const [name, value] of limitOrder(before, after, lxcFacts(folderOf(vmid)))) {
        const path = cgroupFile(monitor, pid, name);
        if (path !== undefined) writeFileSync(path, value);
      }
      for (const key of netKeys(after))
        if (before[key] !== after[key] && before[key] !== undefined)
          await reconfigure(pid, splitOption(before[key] ?? ""), splitOption(after[key] ?? ""));
    },

    forget(vmid) {
      rmSync(folderOf(vmid), { recursive: true, force: true });
    },
  };
}

function errorLines(path: string): string[] {
  if (!existsSync(path)) return [];
  const errors = readFileSync(path, "utf8")
    .split("\n")
    .filter((line) => line.includes(" ERROR "));
  return errors.slice(0, 10).map((line) => line.replace(/^lxc-start \S+ \d+\.\d+ /, "").replace(/ {2,}/g, " "));
}

function lxcFacts(folder: string): LxcFacts {
  const seccomp = "/usr/share/lxc/config/common.seccomp";
  return {
    cgroup: cgroupMode(),
    apparmor: existsSync("/sys/kernel/security/apparmor/profiles"),
    swapAccounting: swapAccounting(),
    seccomp: existsSync(seccomp) ? seccomp : undefined,
    folder,
  };
}

async function requireBridge(enter: readonly string[], bridge: string | undefined): Promise<void> {
  if (bridge === undefined) return;
  const ran = await runProgram([...enter, "/sbin/ip", "-o", "link", "show", "dev", bridge]);
  if (ran.exitCode !== 0) throw new Error(`bridge '${bridge}' does not exist`);
}

/** A node of our own, so that the host's keeps its mode: the containers' root owns it, within their map of ids. */
async function makeNode(folder: string, device: ReturnType<typeof devices>[number]): Promise<void> {
  if (!existsSync(device.path)) throw new Error(`Device ${device.path} does not exist`);
  const { rdev, mode } = statSync(device.path);
  const kind = (mode & 0o170000) === 0o060000 ? "b" : "c";
  // Linux packs device numbers as major in bits 8–19 and minor in 0–7 and 20–31.
  const major = (rdev >>> 8) & 0xfff;
  const minor = (rdev & 0xff) | ((rdev >>> 12) & 0xfff00);
  const path = join(folder, device.key);
  await mustRunProgram(["/usr/bin/mknod", path, kind, String(major), String(minor)]);
  chownSync(path, ID_BASE + device.uid, ID_BASE + device.gid);
  chmodSync(path, device.mode);
}

function readRunning(monitor: number, pid: number): Running {
  const memory = cgroupFile(monitor, pid, "memory.usage_in_bytes") ?? cgroupFile(monitor, pid, "memory.current");
  const stat =
    readProcess(pid, "stat")
      ?.replace(/^.*\) /, "")
      .split(" ") ?? [];
  const boot = Number(readFileSync("/proc/uptime", "utf8").split(" ")[0]);
  const cpu = cgroupFile(monitor, pid, "cpuacct.usage");
  const traffic = (readProcess(pid, "net/dev") ?? "")
    .split("\n")
    .filter((line) => /^\s*eth\d+:/.test(line))
    .map((line) => line.replace(/^.*:/, "").trim().split(/\s+/).map(Number));
  return {
    pid,
    uptimeSeconds: Math.max(0, Math.floor(boot - Number(stat[19] ?? 0) / 100)),
    memoryBytes: memory === undefined ? 0 : Number(readFileSync(memory, "utf8")),
    cpuSeconds: cpu === undefined ? 0 : Number(readFileSync(cpu, "utf8")) / 1e9,
    receivedBytes: traffic.reduce((sum, row) => sum + (row[0] ?? 0), 0),
    sentBytes: traffic.reduce((sum, row) => sum + (row[8] ?? 0), 0),
  };
}

/** When memory grows the sum with swap must grow first; when it shrinks, last: the kernel refuses otherwise. */
function limitOrder(
  before: Record<string, string>,
  after: Record<string, string>,
  facts: LxcFacts,
): [string, string][] {
  const values = limitValues(after, facts).filter(
    ([name, value]) => new Map(limitValues(before, facts)).get(name) !== value,
  );
  return Number(after.memory) > Number(before.memory) ? values.reverse() : values;
}

/** Changes address and MAC of a running container's interface without taking the pair apart. */
async function reconfigure(pid: number, before: Record<string, string>, after: Record<string, string>): Promise<void> {
  const name = before.name ?? "eth0";
  const ip = async (...args: string[]): Promise<void> => {
    await runProgram(["/usr/bin/nsenter", `--net=/proc/${pid}/ns/net`, "/sbin/ip", ...args]);
  };
  if (before.hwaddr !== after.hwaddr) {
    await ip("link", "set", "dev", name, "down");
    await ip("link", "set", "dev", name, "address", after.hwaddr ?? "");
    await ip("link", "set", "dev", name, "up");
  }
  for (const [address, gateway] of [
    ["ip", "gw"],
    ["ip6", "gw6"],
  ] as const) {
    if (before[address]?.includes("/") && before[address] !== after[address])
      await ip("addr", "del", before[address], "dev", name);
    if (after[address]?.includes("/")) await ip("addr", "replace", after[address], "dev", name);
    const to = after[gateway];
    if (to !== undefined)
      await ip(address === "ip" ? "-4" : "-6", "route", "replace", "default", "via", to, "dev", name);
  }
}

async function gone(pid: number, timeoutMs: Millis, signal?: AbortSignal): Promise<boolean> {
  const until = performance.now() + timeoutMs;
  while (processAlive(pid)) {
    if (performance.now() > until || signal?.aborted) return false;
    await delay(POLL_MS);
  }
  return true;
}
