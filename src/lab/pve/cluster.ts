import type { Pve } from "./pve.js";

/**
 * Several PVE nodes that answer for one another. Accounts, tickets and numbers of containers are theirs together.
 * Open the second and further members with `shares` = the first.
 */
export function joinCluster(name: string, members: readonly Pve[]): void {
  for (const pve of members) pve.cluster = { name, members };
}

export const membersOf = (pve: Pve): readonly Pve[] => pve.cluster?.members ?? [pve];

/** The member of this name; "localhost" is the one that was asked. */
export const memberNamed = (pve: Pve, name: string): Pve | undefined =>
  name === "localhost" ? pve : membersOf(pve).find(({ nodeName }) => nodeName === name);

/** The member that has a container of this number. */
export const ownerOf = (pve: Pve, vmid: number): Pve | undefined =>
  membersOf(pve).find(({ guests }) => guests.has(vmid));
