import { splitOption, withPending } from "./guestconfig.js";
import type { Pve } from "./pve.js";

const MIB = 1024 * 1024;
const GIB = 1024 * MIB;

const PRESSURE = {
  pressurecpusome: null,
  pressurecpufull: null,
  pressureiosome: null,
  pressureiofull: null,
  pressurememorysome: null,
  pressurememoryfull: null,
};

/** A container as lists and status/current show it. Pressure is unknown on control groups of version 1: null. */
export function guestStatus(pve: Pve, vmid: number): Record<string, unknown> {
  const { config } = pve.guests.read(vmid);
  const options = withPending(config);
  const running = pve.runtime.running(vmid);
  const memory = Number(options.memory ?? 512) * MIB;
  const common = {
    type: "lxc",
    vmid,
    name: options.hostname ?? `CT${vmid}`,
    status: running === undefined ? "stopped" : "running",
    cpus: Number(options.cores ?? 0) || 1,
    maxmem: memory,
    maxswap: Number(options.swap ?? 512) * MIB,
    maxdisk: sizeOf(options.rootfs ?? ""),
    swap: 0,
    disk: 0,
    diskread: 0,
    diskwrite: 0,
    ...(options.tags === undefined ? {} : { tags: options.tags }),
    ...(options.lock === undefined ? {} : { lock: options.lock }),
    ...(options.template === "1" ? { template: 1 } : {}),
  };
  if (running === undefined) return { ...common, cpu: 0, mem: 0, uptime: 0, netin: 0, netout: 0 };
  return {
    ...common,
    pid: running.pid,
    cpu: running.uptimeSeconds > 0 ? running.cpuSeconds / running.uptimeSeconds / common.cpus : 0,
    mem: running.memoryBytes,
    uptime: running.uptimeSeconds,
    netin: running.receivedBytes,
    netout: running.sentBytes,
    ...(pve.release === "8.4" ? {} : PRESSURE),
  };
}

/** Bytes of `local:101/vm-101-disk-0.raw,size=2G`. */
export function sizeOf(rootfs: string): number {
  const [, number = "0", unit = ""] = /^(\d+(?:\.\d+)?)([KMGT]?)$/.exec(splitOption(rootfs).size ?? "") ?? [];
  const units: Record<string, number> = { "": 1, K: 1024, M: MIB, G: GIB, T: 1024 * GIB };
  return Number(number) * (units[unit] ?? 1);
}
