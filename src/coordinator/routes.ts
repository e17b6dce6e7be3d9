import type { Cidr } from "../kit/ip.js";
import type { Role } from "../wire/schema.js";

/** What an exit node offers: the whole of an address family, never a part of it. */
export const DEFAULT_ROUTES: readonly Cidr[] = ["0.0.0.0/0", "::/0"] as Cidr[];

/**
 * The routes that peers may send through a device. An exit node's default routes are approved by its role, which an
 * administrator gave its join key; any other route would let a device pull somebody's LAN to itself.
 */
export function approvedRoutes(role: Role, reported: readonly Cidr[]): Cidr[] {
  return role === "exit-node" ? DEFAULT_ROUTES.filter((route) => reported.includes(route)) : [];
}
