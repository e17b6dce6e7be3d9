import type { Files } from "../sys/files.js";
import { leasesPath } from "./dnsmasq.js";
import { PVE_NODE } from "./internet.js";
import { parseLeases } from "./lease.js";
import { PVE_STATE_DIR, RUN_DIR } from "./places.js";
import { Guests } from "./pve/guest.js";
import { lxcRuntime } from "./pve/lxc.js";

/** A container of the lab's Proxmox host, as seen from beside it: also when its server does not run. */
export type Container = {
  readonly vmid: number;
  readonly name: string;
  readonly running: boolean;
  /** The address it holds a lease for. */
  readonly address: string | null;
};

export async function listContainers(files: Files): Promise<Container[]> {
  const guests = new Guests(PVE_STATE_DIR, PVE_NODE);
  const runtime = lxcRuntime(PVE_STATE_DIR);
  const leases = parseLeases((await files.readText(leasesPath("home", RUN_DIR))) ?? "");
  return guests.list().map((vmid) => {
    const { hostname = "", net0 = "" } = guests.read(vmid).config.options;
    const mac = /hwaddr=([0-9A-Fa-f:]{17})/.exec(net0)?.[1]?.toLowerCase();
    return {
      vmid,
      name: hostname,
      running: runtime.running(vmid) !== undefined,
      address: leases.find((lease) => lease.mac === mac)?.address ?? null,
    };
  });
}
