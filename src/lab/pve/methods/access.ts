import { expired, type Grant, passwordMatches } from "../accounts.js";
import { words } from "../format.js";
import { ACL_PATH, allPermissions, authId, type Caller, isRoot, may, privilegesAt } from "../permission.js";
import { BUILT_IN_ROLES, capabilities, PRIVILEGES } from "../privilege.js";
import { type Call, type Handlers, type Pve, text } from "../pve.js";
import { badParameters, failed, forbidden, unauthorized } from "../refusal.js";

export const accessMethods: Handlers = {
  "GET /access/domains": () => [
    { realm: "pam", type: "pam", comment: "Linux PAM standard authentication" },
    { realm: "pve", type: "pve", comment: "Proxmox VE authentication server" },
  ],

  "GET /access/ticket": () => null,

  "POST /access/ticket": ({ pve, params }) => {
    const given = String(params.username);
    const username = given.includes("@") ? given : `${given}@${params.realm ?? "pam"}`;
    const password = String(params.password);
    if (!mayLogIn(pve, username, password)) throw unauthorized("authentication failure", "json");
    const { ticket, csrf } = pve.tickets.issue(username, pve.now());
    const cap = capabilities(heldAnywhere(pve, { user: username }));
    return { username, ticket, CSRFPreventionToken: csrf, cap };
  },

  "GET /access/permissions": ({ pve, caller, params }) => {
    const userid = text(params, "userid");
    const [user = "", token] = (userid ?? authId(caller)).split("!");
    if (
      userid !== undefined &&
      userid !== authId(caller) &&
      user !== caller.user &&
      !may(pve.accounts, caller, "/access", "Sys.Audit")
    )
      throw forbidden("/access, Sys.Audit");
    const of: Caller = token === undefined ? { user } : { user, token };
    const path = text(params, "path");
    if (path === undefined) return allPermissions(pve.accounts, of);
    return { [path]: Object.fromEntries(privilegesAt(pve.accounts, of, path)) };
  },

  "GET /access/roles": ({ pve }) => [
    ...Object.entries(BUILT_IN_ROLES).map(([roleid, privs]) => ({ roleid, privs: privs.join(","), special: 1 })),
    ...Object.entries(pve.accounts.roles).map(([roleid, privs]) => ({ roleid, privs: privs.join(","), special: 0 })),
  ],

  "GET /access/roles/{roleid}": ({ pve, params }) => {
    const privileges = pve.accounts.role(String(params.roleid));
    if (privileges === undefined) throw failed(`role '${params.roleid}' does not exist`);
    return Object.fromEntries(privileges.map((privilege) => [privilege, 1]));
  },

  "POST /access/roles": ({ pve, params }) => {
    const roleid = String(params.roleid);
    if (pve.accounts.role(roleid) !== undefined) throw failed(`create role failed: role '${roleid}' already exists`);
    pve.accounts.roles[roleid] = uniqueSorted(words(String(params.privs ?? "")));
    pve.accounts.save();
    return null;
  },

  "PUT /access/roles/{roleid}": ({ pve, params }) => {
    const { roleid, own } = ownRole(pve, params.roleid, "update");
    const wanted = words(String(params.privs ?? ""));
    pve.accounts.roles[roleid] = uniqueSorted(params.append === 1 ? [...own, ...wanted] : wanted);
    pve.accounts.save();
    return null;
  },

  "DELETE /access/roles/{roleid}": ({ pve, params }) => {
    const { roleid } = ownRole(pve, params.roleid, "delete");
    delete pve.accounts.roles[roleid];
    pve.accounts.dropGrantsTo((grant) => grant.roleid === roleid);
    pve.accounts.save();
    return null;
  },

  "GET /access/acl": ({ pve, caller }) =>
    pve.accounts.acl
      .filter((grant) => may(pve.accounts, caller, grant.path, "Permissions.Modify"))
      .sort((a, b) => (a.path < b.path ? -1 : 1)),

  "PUT /access/acl": putAcl,
};

function mayLogIn(pve: Pve, username: string, password: string): boolean {
  const user = pve.accounts.users[username];
  if (user === undefined || user.enable === 0 || expired(user.expire, pve.now())) return false;
  return passwordMatches(user.password, password) || pve.tickets.userOf(password, pve.now()) === username;
}

function heldAnywhere(pve: Pve, caller: Caller): ReadonlySet<string> {
  if (isRoot(caller)) return PRIVILEGES;
  return new Set(Object.values(allPermissions(pve.accounts, caller)).flatMap(Object.keys));
}

function ownRole(pve: Pve, given: unknown, doing: string): { roleid: string; own: readonly string[] } {
  const roleid = String(given);
  const own = pve.accounts.roles[roleid];
  if (own !== undefined) return { roleid, own };
  const why = roleid in BUILT_IN_ROLES ? "auto-generated role" : "role";
  throw failed(
    `${doing} role failed: ${why} '${roleid}' ${roleid in BUILT_IN_ROLES ? `cannot be ${doing}d` : "does not exist"}`,
  );
}

function putAcl({ pve, params }: Call): null {
  const path = String(params.path);
  if (!ACL_PATH.test(path)) throw badParameters({ path: `invalid ACL path '${path}'` });
  const users = words(String(params.users ?? ""));
  const tokens = words(String(params.tokens ?? ""));
  const required = "either 'users', 'groups' or 'tokens' is required.";
  if (users.length + tokens.length === 0 && params.groups === undefined)
    throw badParameters({ users: required, groups: required, tokens: required });
  const propagate = Number(params.propagate ?? 1);
  const whole = path.length > 1 ? path.replace(/\/+$/, "") : path;
  const who: Pick<Grant, "type" | "ugid">[] = [
    ...users.map((ugid) => ({ type: "user" as const, ugid })),
    ...tokens.map((ugid) => ({ type: "token" as const, ugid })),
  ];
  for (const roleid of words(String(params.roles))) {
    if (pve.accounts.role(roleid) === undefined) throw failed(`ACL update failed: role '${roleid}' does not exist`);
    for (const { type, ugid } of who) {
      requireKnown(pve, type, ugid);
      const same = (grant: Grant): boolean =>
        grant.path === whole && grant.type === type && grant.ugid === ugid && grant.roleid === roleid;
      pve.accounts.dropGrantsTo(same);
      if (params.delete !== 1) pve.accounts.acl.push({ path: whole, type, ugid, roleid, propagate });
    }
  }
  pve.accounts.save();
  return null;
}

function requireKnown(pve: Pve, type: Grant["type"], ugid: string): void {
  const [user = "", token] = ugid.split("!");
  const known = pve.accounts.users[user];
  if (known === undefined) throw failed(`ACL update failed: user '${user}' does not exist`);
  if (type === "token" && known.tokens[token ?? ""] === undefined)
    throw failed(`ACL update failed: no such token '${token ?? ""}' for user '${user}'`);
}

const uniqueSorted = (list: readonly string[]): string[] => [...new Set(list)].sort();
