/** The privileges of Proxmox VE 9.2 by the group its permission screen shows them in, and the roles it ships. */
const PRIVILEGE_GROUPS = {
  vms: [
    ...["VM.Allocate", "VM.Audit", "VM.Backup", "VM.Clone", "VM.Config.CDROM", "VM.Config.CPU", "VM.Config.Cloudinit"],
    ...["VM.Config.Disk", "VM.Config.HWType", "VM.Config.Memory", "VM.Config.Network", "VM.Config.Options"],
    ...["VM.Console", "VM.GuestAgent.Audit", "VM.GuestAgent.FileRead", "VM.GuestAgent.FileSystemMgmt"],
    ...["VM.GuestAgent.FileWrite", "VM.GuestAgent.Unrestricted", "VM.Migrate", "VM.PowerMgmt", "VM.Replicate"],
    ...["VM.Snapshot", "VM.Snapshot.Rollback"],
  ],
  storage: ["Datastore.Allocate", "Datastore.AllocateSpace", "Datastore.AllocateTemplate", "Datastore.Audit"],
  nodes: [
    ...["Sys.AccessNetwork", "Sys.Audit", "Sys.Console", "Sys.Incoming", "Sys.Modify", "Sys.PowerMgmt", "Sys.Syslog"],
  ],
  sdn: ["SDN.Allocate", "SDN.Audit", "SDN.Use"],
  mapping: ["Mapping.Audit", "Mapping.Modify", "Mapping.Use"],
  access: ["Group.Allocate", "User.Modify"],
  pool: ["Pool.Allocate", "Pool.Audit"],
  realm: ["Permissions.Modify", "Realm.Allocate", "Realm.AllocateUser"],
} as const;

export const PRIVILEGES: ReadonlySet<string> = new Set<string>(Object.values(PRIVILEGE_GROUPS).flat());

const all = [...PRIVILEGES].sort();
const without = (...left: readonly string[]): string[] => all.filter((privilege) => !left.includes(privilege));

export const BUILT_IN_ROLES: Readonly<Record<string, readonly string[]>> = {
  Administrator: all,
  NoAccess: [],
  PVEAdmin: without(
    ...["Permissions.Modify", "Realm.Allocate", "Sys.AccessNetwork", "Sys.Incoming", "Sys.Modify", "Sys.PowerMgmt"],
  ),
  PVEAuditor: all.filter((privilege) => privilege.endsWith(".Audit")),
  PVEDatastoreAdmin: PRIVILEGE_GROUPS.storage,
  PVEDatastoreUser: ["Datastore.AllocateSpace", "Datastore.Audit"],
  PVEPoolAdmin: PRIVILEGE_GROUPS.pool,
  PVEPoolUser: ["Pool.Audit"],
  PVESDNAdmin: PRIVILEGE_GROUPS.sdn,
  PVESDNUser: ["SDN.Audit", "SDN.Use"],
  PVESysAdmin: ["Sys.Audit", "Sys.Console", "Sys.Syslog"],
  PVEUserAdmin: ["Group.Allocate", "Realm.AllocateUser", "User.Modify"],
  PVEVMAdmin: PRIVILEGE_GROUPS.vms,
  PVEVMUser: ["VM.Audit", "VM.Backup", "VM.Config.CDROM", "VM.Config.Cloudinit", "VM.Console", "VM.PowerMgmt"],
};

/** The `cap` of a login answer: what the web interface would show, by group. */
export function capabilities(held: ReadonlySet<string>): Record<string, Record<string, 1>> {
  const pick = (names: readonly string[]): Record<string, 1> =>
    Object.fromEntries(names.filter((name) => held.has(name)).map((name) => [name, 1]));
  return {
    vms: pick([...PRIVILEGE_GROUPS.vms, "Permissions.Modify"]),
    storage: pick([...PRIVILEGE_GROUPS.storage, "Permissions.Modify"]),
    nodes: pick([...PRIVILEGE_GROUPS.nodes, "Permissions.Modify"]),
    sdn: pick([...PRIVILEGE_GROUPS.sdn, "Permissions.Modify"]),
    mapping: pick([...PRIVILEGE_GROUPS.mapping, "Permissions.Modify"]),
    access: pick([...PRIVILEGE_GROUPS.access, "Permissions.Modify"]),
    dc: pick([...PRIVILEGE_GROUPS.sdn, "Sys.Audit", "Sys.Modify"]),
  };
}
