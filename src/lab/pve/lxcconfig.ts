import type { CgroupMode } from "./cgroup.js";
import { splitOption } from "./guestconfig.js";
import { ID_BASE, ID_COUNT } from "./program.js";

export type LxcFacts = {
  readonly cgroup: CgroupMode;
  readonly apparmor: boolean;
  readonly swapAccounting: boolean;
  readonly seccomp: string | undefined;
  /** Folder for the scripts and device nodes of this container. */
  readonly folder: string;
};
const CPU_PERIOD_US = 100_000;

/** The LXC configuration of an unprivileged container, from the options of its Proxmox configuration. */
export function renderLxcConfig(vmid: number, root: string, options: Record<string, string>, facts: LxcFacts): string {
  const lines = [
    `lxc.uts.name = ${(options.hostname ?? `CT${vmid}`).split(".")[0]}`,
    `lxc.rootfs.path = dir:${root}`,
    ...(options.unprivileged === "0"
      ? []
      : [`lxc.idmap = u 0 ${ID_BASE} ${ID_COUNT}`, `lxc.idmap = g 0 ${ID_BASE} ${ID_COUNT}`]),
    `lxc.apparmor.profile = ${facts.apparmor ? "generated" : "unconfined"}`,
    ...(facts.apparmor ? ["lxc.apparmor.allow_nesting = 1"] : []),
    ...(facts.seccomp === undefined ? [] : [`lxc.seccomp.profile = ${facts.seccomp}`]),
    "lxc.cap.drop = mac_admin mac_override sys_time sys_module sys_rawio",
    // mixed: /proc/sys and /sys read-only but for their net parts, which an exit node must write.
    "lxc.mount.auto = proc:mixed sys:mixed",
    "lxc.autodev = 1",
    "lxc.tty.max = 2",
    "lxc.pty.max = 1024",
    "lxc.signal.halt = SIGRTMIN+3",
    `lxc.init.cmd = ${options.entrypoint ?? "/sbin/init"}`,
    ...limits(options, facts),
    ...networks(vmid, options, facts),
    ...devices(options).map(
      ({ key, path }) => `lxc.mount.entry = ${facts.folder}/${key} ${path.slice(1)} none bind,create=file 0 0`,
    ),
  ];
  return `${lines.join("\n")}\n`;
}

/** The limits as control group writes: file name and value. */
export function limitValues(
  options: Record<string, string>,
  facts: Pick<LxcFacts, "cgroup" | "swapAccounting">,
): [string, string][] {
  const memory = Number(options.memory ?? 512) * 1024 * 1024;
  const swap = Number(options.swap ?? 512) * 1024 * 1024;
  const cpus = Number(options.cpulimit ?? 0) || Number(options.cores ?? 0);
  const quota = cpus > 0 ? String(Math.round(cpus * CPU_PERIOD_US)) : undefined;
  if (facts.cgroup === "v2")
    return [
      ["memory.max", String(memory)],
      ...(facts.swapAccounting ? [["memory.swap.max", String(swap)] as [string, string]] : []),
      ...(quota === undefined ? [] : [["cpu.max", `${quota} ${CPU_PERIOD_US}`] as [string, string]]),
    ];
  return [
    ["memory.limit_in_bytes", String(memory)],
    ...(facts.swapAccounting ? [["memory.memsw.limit_in_bytes", String(memory + swap)] as [string, string]] : []),
    ["cpu.cfs_period_us", String(CPU_PERIOD_US)],
    ...(quota === undefined ? [] : [["cpu.cfs_quota_us", quota] as [string, string]]),
  ];
}

function limits(options: Record<string, string>, facts: LxcFacts): string[] {
  const prefix = facts.cgroup === "v2" ? "lxc.cgroup2" : "lxc.cgroup";
  return limitValues(options, facts).map(([name, value]) => `${prefix}.${name} = ${value}`);
}

/** The bridge is joined by a script: LXC would look for it in /sys, which may show another network namespace. */
function networks(vmid: number, options: Record<string, string>, facts: LxcFacts): string[] {
  return netKeys(options).flatMap((key) => {
    const net = splitOption(options[key] ?? "");
    const n = Number(key.slice(3));
    return [
      `lxc.net.${n}.type = veth`,
      `lxc.net.${n}.veth.pair = veth${vmid}i${n}`,
      `lxc.net.${n}.script.up = ${facts.folder}/${key}-up`,
      `lxc.net.${n}.name = ${net.name}`,
      `lxc.net.${n}.hwaddr = ${net.hwaddr}`,
      ...(net.link_down === "1" ? [] : [`lxc.net.${n}.flags = up`]),
    ];
  });
}

export const netKeys = (options: Record<string, string>): string[] =>
  Object.keys(options)
    .filter((key) => /^net\d+$/.test(key))
    .sort();

/** The script of one interface; LXC gives the host's end of the pair as fifth argument. */
export function renderUpScript(option: string): string {
  const net = splitOption(option);
  const mtu = net.mtu === undefined ? "" : ` mtu ${Number(net.mtu)}`;
  return `#!/bin/sh\nexec /sbin/ip link set dev "$5" up${mtu} master '${net.bridge ?? ""}'\n`;
}

export type Device = {
  readonly key: string;
  readonly path: string;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
};

/** dev0, dev1, …: `/dev/net/tun` or `path=/dev/net/tun,mode=0660,uid=0,gid=0`. */
export function devices(options: Record<string, string>): Device[] {
  return Object.keys(options)
    .filter((key) => /^dev\d+$/.test(key))
    .map((key) => {
      const parts = splitOption(options[key] ?? "", "path");
      return {
        key,
        path: parts.path ?? "",
        mode: Number.parseInt(parts.mode ?? "0660", 8),
        uid: Number(parts.uid ?? 0),
        gid: Number(parts.gid ?? 0),
      };
    });
}
