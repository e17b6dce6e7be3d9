import { Failure } from "../kit/failure.js";
import type { Acl, PveAccess, PveHost } from "./guests.js";
import { bridgePath, guestPath, nodePath, ROLE_NAMES, ROLES, type RoleName, storagePath } from "./permissions.js";

/**
 * With a root login, once: the pool, the roles, the user and the privilege-separated token that this program then lives with,
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
const ACCESS_TOKEN = "cli";

export type AccessStep =
  | { readonly do: "pool"; readonly pool: string }
  | { readonly do: "role"; readonly role: RoleName; readonly privs: readonly string[]; readonly exists: boolean }
  | { readonly do: "user"; readonly user: string }
  /** A token's secret is told only when it is made, so one that is already there is made anew. */
  | { readonly do: "token"; readonly user: string; readonly token: string; readonly replaces: boolean }
  | { readonly do: "acl"; readonly acl: Acl };

/** What planning asks for beyond accounts. */
export type AccessHost = PveAccess & Pick<PveHost, "pools">;

export async function planAccess(pve: AccessHost, wish: AccessWish): Promise<AccessStep[]> {
  const user = wish.user ?? ACCESS_USER;
  const token = wish.token ?? ACCESS_TOKEN;
  const roles = await pve.roles();
  const userExists = (await pve.users()).includes(user);
  const tokenExists = userExists && (await pve.tokens(user)).some(({ id }) => id === token);
  const acls = await pve.acls();
  const steps: AccessStep[] = [];
  if (wish.pool !== undefined && !(await pve.pools()).includes(wish.pool)) steps.push({ do: "pool", pool: wish.pool });
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
    case "pool":
      return `make the pool ${step.pool}, for the exit nodes' containers`;
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

/** The same step as somebody types it in the host's shell, as root. */
export function accessLines(step: AccessStep): string[] {
  switch (step.do) {
    case "pool":
      return [`pveum pool add ${step.pool}`];
    case "role":
      return [`pveum role ${step.exists ? "modify" : "add"} ${step.role} --privs "${step.privs.join(" ")}"`];
    case "user":
      return [`pveum user add ${step.user} --comment "${USER_COMMENT}"`];
    case "token": {
      const token = `${step.user} ${step.token}`;
      return [
        ...(step.replaces ? [`pveum user token remove ${token}`] : []),
        `pveum user token add ${token} --privsep 1`,
      ];
    }
    case "acl": {
      const { path, role, kind, holder } = step.acl;
      // Single quotes: a shell would take "!" as a reference to its history.
      return [`pveum acl modify ${path} --roles ${role} --${kind}s '${holder}'`];
    }
  }
}

const USER_COMMENT = "exitnode: makes and looks after exit nodes";

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
      case "pool":
        await pve.createPool(step.pool, "exitnode");
        break;
      case "role":
        await pve.setRole(step.role, step.privs, step.exists);
        break;
      case "user":
        await pve.createUser(step.user, USER_COMMENT);
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
