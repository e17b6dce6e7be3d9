import { randomBytes } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Accounts, type Grant, hashPassword, newSecret } from "./accounts.js";
import { readCertificate } from "./certificate.js";
import { isRecord } from "./json.js";
import { writeWhole } from "./statefile.js";
import { DEFAULT_STORAGES } from "./storage.js";

/** What somebody needs to use the lab's Proxmox VE. */
export type Access = {
  readonly rootPassword: string;
  readonly fingerprint: string;
  readonly token: { readonly id: string; readonly secret: string };
};

const LAB_USER = "exitnode@pve";
const LAB_TOKEN = "lab";

/** The roles of the least-privilege token, and where each is granted (pve-api, 3: "Smallest useful roles"). */
const LAB_ROLES: readonly {
  role: string;
  paths: (node: string) => readonly string[];
  privileges: readonly string[];
}[] = [
  {
    role: "ExitnodeGuests",
    paths: () => ["/vms"],
    privileges: [
      ...["VM.Allocate", "VM.Audit", "VM.PowerMgmt", "VM.Config.CPU", "VM.Config.Memory", "VM.Config.Disk"],
      ...["VM.Config.Network", "VM.Config.Options", "VM.Snapshot", "VM.Snapshot.Rollback", "VM.Backup", "VM.Clone"],
    ],
  },
  {
    role: "ExitnodeStorage",
    paths: () => DEFAULT_STORAGES.map(({ id }) => `/storage/${id}`),
    privileges: ["Datastore.AllocateSpace", "Datastore.AllocateTemplate", "Datastore.Audit"],
  },
  { role: "ExitnodeNetwork", paths: () => ["/sdn/zones/localnetwork/vmbr0"], privileges: ["SDN.Use"] },
  { role: "ExitnodeNode", paths: (node) => [`/nodes/${node}`], privileges: ["Sys.Audit"] },
];

/**
 * Makes, on the first run, root's password and a user with a privilege-separated token that may do what exitnode
 * needs and no more; later runs answer the same. Call it before the server starts: both write the accounts. In a
 * cluster the accounts are those of the first member, with grants for all.
 */
export async function prepareAccess(
  stateDir: string,
  nodeName = "pve1",
  members: readonly string[] = [nodeName],
): Promise<Access> {
  const path = join(stateDir, "credentials.json");
  const { fingerprint } = await readCertificate(stateDir, nodeName);
  const kept = readKept(path);
  const accounts = new Accounts(stateDir);
  if (kept !== undefined) {
    if (grantLabRoles(accounts, members)) accounts.save();
    return { ...kept, fingerprint };
  }
  const rootPassword = randomBytes(12).toString("base64url");
  const root = accounts.users["root@pam"];
  if (root !== undefined) root.password = hashPassword(rootPassword);
  const { secret, hash } = newSecret();
  accounts.users[LAB_USER] = {
    enable: 1,
    expire: 0,
    comment: "exitnode",
    tokens: { [LAB_TOKEN]: { secretHash: hash, privsep: 1, expire: 0 } },
  };
  const id = `${LAB_USER}!${LAB_TOKEN}`;
  accounts.dropGrantsTo((grant) => grant.ugid === LAB_USER || grant.ugid === id);
  grantLabRoles(accounts, members);
  accounts.save();
  // Last: until this file is there, a rerun makes everything anew.
  const made = { rootPassword, token: { id, secret } };
  writeWhole(path, JSON.stringify(made), 0o600);
  return { ...made, fingerprint };
}

/** Grants what is missing; true when something was. A lab of an earlier version may have fewer storages. */
function grantLabRoles(accounts: Accounts, nodeNames: readonly string[]): boolean {
  const before = accounts.acl.length;
  for (const { role, paths, privileges } of LAB_ROLES) {
    accounts.roles[role] = [...privileges].sort();
    for (const path of new Set(nodeNames.flatMap(paths))) {
      const grant = { path, roleid: role, propagate: 1 };
      const both: Grant[] = [
        { ...grant, type: "user", ugid: LAB_USER },
        { ...grant, type: "token", ugid: `${LAB_USER}!${LAB_TOKEN}` },
      ];
      const held = (wanted: Grant): boolean =>
        accounts.acl.some((one) => one.path === path && one.roleid === role && one.ugid === wanted.ugid);
      accounts.acl.push(...both.filter((wanted) => !held(wanted)));
    }
  }
  return accounts.acl.length > before;
}

function readKept(path: string): Omit<Access, "fingerprint"> | undefined {
  if (!existsSync(path)) return undefined;
  const value: unknown = JSON.parse(readFileSync(path, "utf8"));
  if (!isRecord(value) || !isRecord(value.token)) return undefined;
  const { rootPassword, token } = value;
  return { rootPassword: String(rootPassword), token: { id: String(token.id), secret: String(token.secret) } };
}
