import type { Accounts, Grant } from "./accounts.js";
import { forbidden } from "./refusal.js";

/** Who asks: a user by ticket, or one of a user's tokens. */
export type Caller = { readonly user: string; readonly token?: string };

/** "rm@pve" or "rm@pve!client": what Proxmox compares with "root@pam", so that a token of root never equals it. */
export const authId = (caller: Caller): string =>
  caller.token === undefined ? caller.user : `${caller.user}!${caller.token}`;
export const isRoot = (caller: Caller): boolean => authId(caller) === "root@pam";

/** The privileges at a path, each with 1 when it also holds below the path. */
export function privilegesAt(accounts: Accounts, caller: Caller, path: string): Map<string, number> {
  if (caller.token === undefined) return ownPrivileges(accounts, { type: "user", ugid: caller.user }, path);
  const token = accounts.users[caller.user]?.tokens[caller.token];
  const users = privilegesAt(accounts, { user: caller.user }, path);
  if (token === undefined || token.privsep === 0) return users;
  // Privilege separation: what the token was granted, as far as its user holds it too.
  const granted = ownPrivileges(accounts, { type: "token", ugid: authId(caller) }, path);
  return new Map([...granted].filter(([privilege]) => users.has(privilege)));
}

function ownPrivileges(accounts: Accounts, who: Pick<Grant, "type" | "ugid">, path: string): Map<string, number> {
  const roles = who.ugid === "root@pam" ? new Map([["Administrator", 1]]) : rolesAt(accounts, who, path);
  const pool = poolOfPath(accounts, path);
  if (pool !== undefined && !roles.has("NoAccess"))
    for (const [role, propagate] of rolesAt(accounts, who, `/pool/${pool}`)) roles.set(role, propagate);
  const held = new Map<string, number>();
  if (roles.has("NoAccess")) return held;
  for (const [role, propagate] of roles)
    for (const privilege of accounts.role(role) ?? [])
      held.set(privilege, Math.max(propagate, held.get(privilege) ?? 0));
  return held;
}

/** Grants at a deeper path replace those above it. */
function rolesAt(accounts: Accounts, who: Pick<Grant, "type" | "ugid">, path: string): Map<string, number> {
  let roles = new Map<string, number>();
  for (const step of stepsTo(path)) {
    const here = accounts.acl.filter(
      (grant) =>
        grant.path === step &&
        grant.type === who.type &&
        grant.ugid === who.ugid &&
        (step === path || grant.propagate === 1),
    );
    if (here.length > 0) roles = new Map(here.map((grant) => [grant.roleid, grant.propagate]));
  }
  return roles;
}

function stepsTo(path: string): string[] {
  const parts = path.split("/").filter((part) => part !== "");
  return ["/", ...parts.map((_, i) => `/${parts.slice(0, i + 1).join("/")}`)];
}

function poolOfPath(accounts: Accounts, path: string): string | undefined {
  const vmid = /^\/vms\/(\d+)$/.exec(path)?.[1];
  if (vmid !== undefined) return accounts.poolOf({ vmid: Number(vmid) });
  const storage = /^\/storage\/([^/]+)$/.exec(path)?.[1];
  return storage === undefined ? undefined : accounts.poolOf({ storage });
}

export function may(accounts: Accounts, caller: Caller, path: string, ...any: readonly string[]): boolean {
  const held = privilegesAt(accounts, caller, path);
  return any.some((privilege) => held.has(privilege));
}

/** Refuses with `(PATH, Priv|Priv)` unless one of the privileges is held. */
export function mustHave(accounts: Accounts, caller: Caller, path: string, ...any: readonly string[]): void {
  if (!may(accounts, caller, path, ...any)) throw forbidden(`${path}, ${any.join("|")}`);
}

/** The answer of GET /access/permissions without a path: every path where something is held. */
export function allPermissions(accounts: Accounts, caller: Caller): Record<string, Record<string, number>> {
  const paths = new Set(["/", "/access", "/access/groups", "/nodes", "/pool", "/sdn", "/storage", "/vms"]);
  for (const grant of accounts.acl) paths.add(grant.path);
  for (const [name, pool] of Object.entries(accounts.pools)) {
    paths.add(`/pool/${name}`);
    for (const vmid of pool.vms) paths.add(`/vms/${vmid}`);
    for (const storage of pool.storage) paths.add(`/storage/${storage}`);
  }
  const table: Record<string, Record<string, number>> = {};
  for (const path of [...paths].sort()) {
    const held = privilegesAt(accounts, caller, path);
    if (held.size > 0) table[path] = Object.fromEntries(held);
  }
  return table;
}

/** Paths grants may be made at. */
export const ACL_PATH =
  /^\/(?:|access(?:\/groups(?:\/[^/]+)?|\/realm(?:\/[^/]+)?)?|nodes(?:\/[^/]+)?|pool(?:\/[^/]+)*|storage(?:\/[^/]+)?|vms(?:\/\d+)?|sdn(?:\/zones(?:\/[^/]+){0,3})?|mapping(?:\/[^/]+){0,2})$/;
