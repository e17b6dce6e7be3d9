import type { Files } from "../sys/files.js";
import { leasesPath } from "./dnsmasq.js";
import { labHosts } from "./hosts.js";
import { parseLeases } from "./lease.js";
import { RUN_DIR } from "./places.js";
import { Guests } from "./pve/guest.js";
import { lxcRuntime } from "./pve/lxc.js";

/** A container of one of the lab's Proxmox hosts, as seen from beside it: also when its server does not run. */
export type Container = {
  readonly host: string;
  readonly vmid: number;
  readonly name: string;
  readonly running: boolean;
  /** The address it holds a lease for. */
  readonly address: string | null;
};

export async function listContainers(files: Files, hosts: number): Promise<Container[]> {
  const leases = parseLeases((await files.readText(leasesPath("home", RUN_DIR))) ?? "");
  return labHosts(hosts).flatMap(({ name: host, stateDir }) => {
    const guests = new Guests(stateDir, host);
    const runtime = lxcRuntime(stateDir);
    return guests.list().map((vmid) => {
      const { hostname = "", net0 = "" } = guests.read(vmid).config.options;
      const mac = /hwaddr=([0-9A-Fa-f:]{17})/.exec(net0)?.[1]?.toLowerCase();
      return {
        host,
        vmid,
        name: hostname,
        running: runtime.running(vmid) !== undefined,
        address: leases.find((lease) => lease.mac === mac)?.address ?? null,
      };
    });
  });
}
