import type { Accounts } from "./accounts.js";
import { authId, type Caller, may, mustHave } from "./permission.js";
import type { Params } from "./property.js";
import { forbidden, Refusal } from "./refusal.js";

/** A permission expression of the API description: ["perm", "/vms/{vmid}", ["VM.Audit"]], ["and", …], ["or", …]. */
export type Check = readonly [string, ...unknown[]];

/** Refuses unless the expression holds; the texts are those recorded. */
export function requireCheck(accounts: Accounts, caller: Caller, check: Check, params: Params): void {
  const [kind, ...rest] = check;
  switch (kind) {
    case "perm":
      requirePerm(accounts, caller, rest, params);
      return;
    case "and":
      for (const inner of rest) requireCheck(accounts, caller, inner as Check, params);
      return;
    case "or":
      // An "or" that fails names nothing.
      if (rest.some((inner) => holds(accounts, caller, inner as Check, params))) return;
      throw forbidden();
    case "perm-modify":
      requireModify(accounts, caller, fill(String(rest[0]), params));
      return;
    case "userid-param":
      requireUserid(accounts, caller, String(rest[0]), String(params.userid ?? ""));
      return;
    case "userid-group": {
      const privileges = rest[0] as readonly string[];
      mustHave(accounts, caller, "/access/groups", ...privileges);
      return;
    }
    default:
      throw new Error(`unknown permission expression: ${kind}`);
  }
}

function holds(accounts: Accounts, caller: Caller, check: Check, params: Params): boolean {
  try {
    requireCheck(accounts, caller, check, params);
    return true;
  } catch (error) {
    if (error instanceof Refusal) return false;
    throw error;
  }
}

function requirePerm(accounts: Accounts, caller: Caller, rest: readonly unknown[], params: Params): void {
  const [template, privileges, ...options] = rest as [string, readonly string[], ...unknown[]];
  if (options[0] === "require_param" && params[String(options[1])] === undefined) throw forbidden();
  const path = fill(template, params);
  if (options[0] === "any") mustHave(accounts, caller, path, ...privileges);
  else for (const privilege of privileges) mustHave(accounts, caller, path, privilege);
}

function requireModify(accounts: Accounts, caller: Caller, path: string): void {
  const own: Record<string, string> = {
    storage: "Datastore.Allocate",
    vms: "VM.Allocate",
    pool: "Pool.Allocate",
  };
  const kind = /^\/(storage|vms|pool)\/.+$/.exec(path)?.[1];
  const extra = kind === undefined ? undefined : own[kind];
  mustHave(accounts, caller, path, "Permissions.Modify", ...(extra === undefined ? [] : [extra]));
}

function requireUserid(accounts: Accounts, caller: Caller, want: string, userid: string): void {
  if (want === "self") {
    // A token is not its user: it cannot make tokens.
    if (authId(caller) !== userid) throw forbidden();
    return;
  }
  const realm = userid.slice(userid.lastIndexOf("@") + 1);
  if (!may(accounts, caller, `/access/realm/${realm}`, want)) throw forbidden(`/access/realm/${realm}, ${want}`);
}

function fill(template: string, params: Params): string {
  return template.replace(/\{([^}]+)\}/g, (_, name: string) => String(params[name] ?? ""));
}
