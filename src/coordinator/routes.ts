import { type Cidr, cidrLength } from "../kit/ip.js";
import type { Device } from "./device.js";

/** What an exit node offers: the whole of an address family, never a part of it. */
export const DEFAULT_ROUTES: readonly Cidr[] = ["0.0.0.0/0", "::/0"] as Cidr[];

/**
 * The routes that peers may send through a device, of those that it offers. An exit node's default routes are approved
 * by its role, which an administrator gave its join key; any other route would let a device pull somebody's LAN to
 * itself, and needs an administrator's word or the policy's.
 */
export function approvedRoutes(
  device: Pick<Device, "role" | "approvedRoutes"> & { readonly report: Pick<Device["report"], "routes"> },
  byPolicy: readonly Cidr[] = [],
): Cidr[] {
  const byRole = device.role === "exit-node" ? DEFAULT_ROUTES : [];
  const approved = new Set([...byRole, ...device.approvedRoutes, ...byPolicy]);
  return [...new Set(device.report.routes)]
    .filter((route) => approved.has(route))
    .sort((a, b) => cidrLength(a) - cidrLength(b) || (a < b ? -1 : 1));
}
