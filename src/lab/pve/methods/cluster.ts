import { cgroupMode } from "../cgroup.js";
import { words } from "../format.js";
import { withPending } from "../guestconfig.js";
import { type Caller, may } from "../permission.js";
import { type Handlers, type Pve, vmidOf } from "../pve.js";
import { badParameters } from "../refusal.js";
import { guestStatus } from "../status.js";
import { LOCAL, LOCAL_CONTENT } from "../storage.js";

export const VERSION = { version: "9.2.11", release: "9.2", repoid: "14a22df35955d97d" } as const;

export const clusterMethods: Handlers = {
  "GET /version": () => VERSION,

  "GET /cluster/nextid": (call) => {
    const { guests } = call.pve;
    if (call.params.vmid !== undefined) {
      const vmid = vmidOf(call);
      if (guests.has(vmid)) throw badParameters({ vmid: `VM ${vmid} already exists` });
      return String(vmid);
    }
    const used = new Set(guests.list());
    for (let vmid = 100; ; vmid++) if (!used.has(vmid)) return String(vmid);
  },

  "GET /cluster/status": ({ pve }) => [
    {
      id: `node/${pve.nodeName}`,
      name: pve.nodeName,
      type: "node",
      nodeid: 0,
      ip: pve.address,
      local: 1,
      online: 1,
      level: "",
    },
  ],

  "GET /cluster/tasks": () => [],

  "GET /cluster/options": ({ pve, caller }) => ({ "allowed-tags": usedTags(pve, caller) }),

  "GET /cluster/resources": ({ pve, caller, params }) => {
    const type = params.type;
    const wanted = (kind: string): boolean => type === undefined || type === kind;
    const node = {
      id: `node/${pve.nodeName}`,
      node: pve.nodeName,
      type: "node",
      status: "online",
      level: "",
      "cgroup-mode": cgroupMode() === "v2" ? 2 : 1,
    };
    const guests = pve.guests
      .list()
      .filter((vmid) => may(pve.accounts, caller, `/vms/${vmid}`, "VM.Audit"))
      .map((vmid) => resource(pve, vmid));
    const seesStorage = may(pve.accounts, caller, `/storage/${LOCAL}`, "Datastore.Audit", "Datastore.AllocateSpace");
    return [
      ...(wanted("vm") ? guests : []),
      ...(wanted("node") ? [node] : []),
      ...(wanted("storage") && seesStorage ? [storageResource(pve)] : []),
    ];
  },
};

/** Free-form tags are known by being used. */
function usedTags(pve: Pve, caller: Caller): string[] {
  const seen = pve.guests.list().filter((vmid) => may(pve.accounts, caller, `/vms/${vmid}`, "VM.Audit"));
  const tags = seen.flatMap((vmid) => words(withPending(pve.guests.read(vmid).config).tags ?? ""));
  return [...new Set(tags)].sort();
}

function resource(pve: Pve, vmid: number): Record<string, unknown> {
  const { cpus, swap: _, maxswap: __, pid: ___, ...status } = guestStatus(pve, vmid);
  return {
    ...status,
    id: `lxc/${vmid}`,
    node: pve.nodeName,
    maxcpu: cpus,
    memhost: 0,
    template: status.template ?? 0,
  };
}

export function storageResource(pve: Pve): Record<string, unknown> {
  const { total, used } = pve.storage.space();
  return {
    id: `storage/${pve.nodeName}/${LOCAL}`,
    node: pve.nodeName,
    type: "storage",
    storage: LOCAL,
    plugintype: "dir",
    status: "available",
    shared: 0,
    content: LOCAL_CONTENT.join(","),
    disk: used,
    maxdisk: total,
  };
}
