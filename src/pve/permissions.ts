import { Failure } from "../kit/failure.js";
import type { Permissions } from "./guests.js";

/**
 * Which privileges a plan needs, which of them a login lacks, and the `pveum` lines that grant them.
 *
 * With a privilege-separated token, both the user and the token need every privilege: the effective rights are
 * what the two have in common.
 */
export type Need = {
  readonly path: string;
  /** One of these is enough. */
  readonly anyOf: readonly string[];
  /** What it is for, as a person says it. */
  readonly purpose: string;
};

export type CreateNeeds = {
  readonly node: string;
  readonly storage: string;
  readonly templateStorage: string;
  readonly bridge: string;
  readonly vlan?: number | undefined;
  readonly pool?: string | undefined;
  /** The template has to be sent to the host first. */
  readonly upload: boolean;
};

/** Our roles, one per kind of path, so that the same line may be run any number of times. */
export const ROLES = {
  ExitnodeGuests: [
    "Pool.Audit",
    "VM.Allocate",
    "VM.Audit",
    "VM.Backup",
    "VM.Clone",
    "VM.Config.CPU",
    "VM.Config.Disk",
    "VM.Config.Memory",
    "VM.Config.Network",
    "VM.Config.Options",
    "VM.PowerMgmt",
    "VM.Snapshot",
    "VM.Snapshot.Rollback",
  ],
  ExitnodeStorage: ["Datastore.AllocateSpace", "Datastore.AllocateTemplate", "Datastore.Audit"],
  ExitnodeNetwork: ["SDN.Use"],
  ExitnodeNode: ["Sys.Audit"],
} as const satisfies Record<string, readonly string[]>;
export type RoleName = keyof typeof ROLES;

/** Never a path with a vmid: Proxmox drops the rules at /vms/N when container N is destroyed. */
export const guestPath = (pool: string | undefined): string => (pool === undefined ? "/vms" : `/pool/${pool}`);
export const storagePath = (storage: string): string => `/storage/${storage}`;
export function bridgePath(bridge: string, vlan?: number | undefined): string {
  return `/sdn/zones/localnetwork/${bridge}${vlan === undefined ? "" : `/${vlan}`}`;
}
export const nodePath = (node: string): string => `/nodes/${node}`;

const READ_TEMPLATE = "read the template";

export function needsForCreate(plan: CreateNeeds): Need[] {
  const guests = guestPath(plan.pool);
  const guest = (priv: string, purpose: string): Need => ({ path: guests, anyOf: [priv], purpose });
  return [
    ...(plan.pool === undefined ? [] : [guest("Pool.Audit", "see the pool")]),
    guest("VM.Allocate", "make and remove the container"),
    guest("VM.Audit", "read the container's state"),
    guest("VM.PowerMgmt", "start and stop it"),
    guest("VM.Config.CPU", "set its cores"),
    guest("VM.Config.Memory", "set its memory"),
    guest("VM.Config.Disk", "give it a disk"),
    guest("VM.Config.Network", "give it a network card"),
    guest("VM.Config.Options", "set its tags, description and start at boot"),
    { path: storagePath(plan.storage), anyOf: ["Datastore.AllocateSpace"], purpose: "keep its disk" },
    {
      path: storagePath(plan.templateStorage),
      anyOf: plan.upload ? ["Datastore.AllocateTemplate"] : ["Datastore.Audit", "Datastore.AllocateSpace"],
      purpose: plan.upload ? "upload the template" : READ_TEMPLATE,
    },
    // An upload is confirmed by listing the storage, and the create reads the template.
    ...(plan.upload
      ? [
          {
            path: storagePath(plan.templateStorage),
            anyOf: ["Datastore.Audit", "Datastore.AllocateSpace"],
            purpose: READ_TEMPLATE,
          },
        ]
      : []),
    { path: bridgePath(plan.bridge, plan.vlan), anyOf: ["SDN.Use"], purpose: "attach it to the bridge" },
  ];
}

/** As a create, but from a container that root prepared: a clone reads no template. */
export function needsForClone(plan: CreateNeeds & { readonly source: number }): Need[] {
  const path = `/vms/${plan.source}`;
  return [
    ...needsForCreate({ ...plan, upload: false }).filter(({ purpose }) => purpose !== READ_TEMPLATE),
    { path, anyOf: ["VM.Audit"], purpose: "read the container to clone" },
    { path, anyOf: ["VM.Clone"], purpose: "clone it" },
  ];
}

/** Removing templates; no role of ours has it, since it also removes every other volume there. */
export const needsForTemplateRemoval = (storage: string): Need[] => [
  { path: storagePath(storage), anyOf: ["Datastore.Allocate"], purpose: "remove templates" },
];

/** What one way of keeping the state of before an upgrade takes, and going back to it. */
export function needsForSave(
  how: "snapshot" | "backup" | "copy",
  plan: {
    readonly pool?: string | undefined;
    readonly rootStorage: string;
    readonly backupStorage?: string | undefined;
  },
): Need[] {
  const guest = (purpose: string, ...anyOf: string[]): Need => ({ path: guestPath(plan.pool), anyOf, purpose });
  const space = (storage: string, purpose: string): Need => ({
    path: storagePath(storage),
    anyOf: ["Datastore.AllocateSpace"],
    purpose,
  });
  switch (how) {
    case "snapshot":
      return [
        guest("take a snapshot before an upgrade", "VM.Snapshot"),
        guest("go back to it", "VM.Snapshot.Rollback", "VM.Snapshot"),
      ];
    case "backup":
      return [
        guest("back up where there are no snapshots", "VM.Backup"),
        guest("restore the container", "VM.Allocate"),
        space(plan.backupStorage ?? plan.rootStorage, "keep a backup"),
        space(plan.rootStorage, "keep its disk"),
      ];
    case "copy":
      return [
        guest("copy the container before an upgrade", "VM.Clone"),
        guest("make and remove the copy", "VM.Allocate"),
        space(plan.rootStorage, "keep the copy's disk"),
      ];
  }
}

/** Useful without being needed: the kernel's version and the package list of the node. */
export function needsForDiagnosis(plan: { readonly node: string }): Need[] {
  return [
    { path: nodePath(plan.node), anyOf: ["Sys.Audit"], purpose: "read the PVE node's kernel and package versions" },
  ];
}

export function missing(held: Permissions, needs: readonly Need[]): Need[] {
  return needs.filter((need) => !need.anyOf.some((priv) => holds(held, need.path, priv)));
}

/** All that a login lacks, with the lines that grant it; `instead` is what can be had without. */
export function refused(login: string, lacking: readonly Need[], instead?: string): Failure {
  const told = lacking.map(({ path, anyOf }) => `${anyOf.join(" or ")} on ${path}`).join(", ");
  const grant = ["on the Proxmox host, as root:", ...pveumLines(login, lacking)];
  return new Failure("permissions-missing", `${login} lacks ${told}`, {
    advice: (instead === undefined ? grant : [instead, `or ${grant[0]}`, ...grant.slice(1)]).join("\n"),
  });
}

/** Looks at the path itself, or else at the nearest path above it that is listed, for what reaches below. */
export function holds(held: Permissions, path: string, priv: string): boolean {
  const own = held.get(path);
  if (own !== undefined) return own.has(priv);
  for (let above = parentOf(path); above !== undefined; above = parentOf(above)) {
    const rights = held.get(above);
    if (rights !== undefined) return rights.get(priv)?.propagates === true;
  }
  return false;
}

function parentOf(path: string): string | undefined {
  if (path === "/") return undefined;
  return path.slice(0, path.lastIndexOf("/")) || "/";
}

/** The lines to run as root on the Proxmox host, ready to paste; a line may be run again. */
export function pveumLines(login: string, lacking: readonly Need[]): string[] {
  const roles = new Map<string, readonly string[]>();
  const grants = new Set<string>();
  for (const { path, anyOf } of lacking) {
    const priv = anyOf[0] ?? "";
    const own = ROLE_NAMES.find((name) => KINDS[name].test(path) && ROLES[name].some((one) => one === priv));
    // A privilege outside our roles gets a role of its own, so that it is granted here and nowhere else.
    const role = own ?? `Exitnode${priv.replaceAll(".", "")}`;
    roles.set(role, own === undefined ? [priv] : ROLES[own]);
    grants.add(`pveum acl modify ${path} --roles ${role} ${holders(login)}`);
  }
  return [...[...roles].map(([role, privs]) => roleLine(role, privs)), ...grants];
}

export const ROLE_NAMES: readonly RoleName[] = ["ExitnodeGuests", "ExitnodeStorage", "ExitnodeNetwork", "ExitnodeNode"];

/** Where each of our roles belongs. A storage may also be a member of a pool. */
const KINDS: Record<RoleName, RegExp> = {
  ExitnodeGuests: /^\/(?:vms|pool)(?:\/|$)/,
  ExitnodeStorage: /^\/(?:storage|pool)\//,
  ExitnodeNetwork: /^\/sdn\//,
  ExitnodeNode: /^\/nodes\//,
};

function roleLine(role: string, privs: readonly string[]): string {
  const list = `${role} --privs "${privs.join(" ")}"`;
  return `pveum role add ${list} || pveum role modify ${list} --append 1`;
}

function holders(login: string): string {
  const user = userOf(login);
  // Single quotes: a shell would take "!" as a reference to its history.
  return login === user ? `--users ${user}` : `--users ${user} --tokens '${login}'`;
}

/** "rm@pve!client" → "rm@pve". */
export const userOf = (login: string): string => login.split("!")[0] ?? login;
