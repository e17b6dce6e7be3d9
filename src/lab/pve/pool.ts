import type { Pve } from "./pve.js";

/** A destroyed container leaves its pool. */
export function dropFromPools(pve: Pve, vmid: number): void {
  for (const pool of Object.values(pve.accounts.pools)) pool.vms = pool.vms.filter((member) => member !== vmid);
  pve.accounts.save();
}
