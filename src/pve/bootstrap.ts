import { Failure } from "../kit/failure.js";
import type { Acl, PveAccess } from "./guests.js";
import { bridgePath, guestPath, nodePath, ROLE_NAMES, ROLES, type RoleName, storagePath } from "./permissions.js";

/**
 * With a root login, once: the roles, the user and the privilege-separated token that this program then lives with,
 * and the rules that let it make containers and nothing else. What is already as wanted makes no step.
 */
export type AccessWish = {
  /** The PVE nodes whose kernel and packages may be read. */
  readonly nodes: readonly string[];
  /** Where disks and templates may be put. */
  readonly storages: readonly string[];
  readonly bridges: readonly { readonly name: string; readonly vlan?: number | undefined }[];
  /** Only the containers of this pool; all of them when absent. */
  readonly pool?: string | undefined;
  readonly user?: string;
  readonly token?: string;
};

export const ACCESS_USER = "exitnode@pve";
export const ACCESS_TOKEN = "cli";

export type AccessStep =
  | { readonly do: "role"; readonly role: RoleName; readonly privs: readonly string[]; readonly exists: boolean }
  | { readonly do: "user"; readonly user: string }
  /** A token's secret is told only when it is made, so one that is already there is made anew. */
  | { readonly do: "token"; readonly user: string; readonly token: string; readonly replaces: boolean }
  | { readonly do: "acl"; readonly acl: Acl };

export async function planAccess(pve: PveAccess, wish: AccessWish): Promise<AccessStep[]> {
  const user = wish.user ?? ACCESS_USER;
  const token = wish.token ?? ACCESS_TOKEN;
  const roles = await pve.roles();
  const userExists = (await pve.users()).includes(user);
  const tokenExists = userExists && (await pve.tokens(user)).some(({ id }) => id === token);
  const acls = await pve.acls();
  const steps: AccessStep[] = [];
  for (const role of ROLE_NAMES) {
    const has = roles.get(role);
    if (has === undefined || !ROLES[role].every((priv) => has.includes(priv)))
      steps.push({
        do: "role",
        role,
        privs: [...new Set([...(has ?? []), ...ROLES[role]])],
        exists: has !== undefined,
      });
  }
  if (!userExists) steps.push({ do: "user", user });
  steps.push({ do: "token", user, token, replaces: tokenExists });
  for (const acl of wantedAcls(wish, user, `${user}!${token}`)) {
    // The rules of a token go with it, so those of a token that is replaced are written again.
    const stays = acls.some((one) => same(one, acl)) && !(acl.kind === "token" && tokenExists);
    if (!stays) steps.push({ do: "acl", acl });
  }
  return steps;
}

export function describeAccess(step: AccessStep): string {
  switch (step.do) {
    case "role":
      return `${step.exists ? "complete" : "make"} the role ${step.role}: ${step.privs.join(" ")}`;
    case "user":
      return `make the user ${step.user}, which cannot log in with a password`;
    case "token":
      return `${step.replaces ? "replace" : "make"} the API token ${step.user}!${step.token}`;
    case "acl":
      return `let ${step.acl.holder} be ${step.acl.role} on ${step.acl.path}`;
  }
}

/** Runs the steps in order; interrupted, it is run again from the plan. The secret is told this once. */
export async function applyAccess(
  pve: PveAccess,
  steps: readonly AccessStep[],
  onStep?: (step: AccessStep) => void,
): Promise<{ tokenId: string; secret: string }> {
  let made: { tokenId: string; secret: string } | undefined;
  for (const step of steps) {
    onStep?.(step);
    switch (step.do) {
      case "role":
        await pve.setRole(step.role, step.privs, step.exists);
        break;
      case "user":
        await pve.createUser(step.user, "exitnode: makes and looks after exit nodes");
        break;
      case "token":
        if (step.replaces) await pve.deleteToken(step.user, step.token);
        made = await pve.createToken(step.user, step.token, "exitnode");
        break;
      case "acl":
        await pve.setAcl(step.acl);
    }
  }
  if (made === undefined) throw new Failure("access-plan-empty", "expected a plan that makes a token, got one without");
  return made;
}

/** Plan and apply in one, for a caller that has shown nothing first. */
export async function bootstrapAccess(pve: PveAccess, wish: AccessWish): Promise<{ tokenId: string; secret: string }> {
  return applyAccess(pve, await planAccess(pve, wish));
}

/** With privilege separation, user and token both need every rule. */
function wantedAcls(wish: AccessWish, user: string, tokenId: string): Acl[] {
  const places: [string, RoleName][] = [
    [guestPath(wish.pool), "ExitnodeGuests"],
    ...[...new Set(wish.storages)].map((storage): [string, RoleName] => [storagePath(storage), "ExitnodeStorage"]),
    ...wish.bridges.map(({ name, vlan }): [string, RoleName] => [bridgePath(name, vlan), "ExitnodeNetwork"]),
    ...wish.nodes.map((node): [string, RoleName] => [nodePath(node), "ExitnodeNode"]),
  ];
  return places.flatMap(([path, role]): Acl[] => [
    { path, role, kind: "user", holder: user, propagate: true },
    { path, role, kind: "token", holder: tokenId, propagate: true },
  ]);
}

function same(left: Acl, right: Acl): boolean {
  return (
    left.path === right.path &&
    left.role === right.role &&
    left.kind === right.kind &&
    left.holder === right.holder &&
    left.propagate === right.propagate
  );
}
