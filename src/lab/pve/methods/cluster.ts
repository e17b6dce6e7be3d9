import { cgroupMode } from "../cgroup.js";
import { membersOf, ownerOf } from "../cluster.js";
import { words } from "../format.js";
import { withPending } from "../guestconfig.js";
import { type Caller, may } from "../permission.js";
import { type Handlers, type Pve, vmidOf } from "../pve.js";
import { badParameters } from "../refusal.js";
import { VERSIONS } from "../release.js";
import { guestStatus } from "../status.js";
import type { Storage } from "../storage.js";

export const clusterMethods: Handlers = {
  "GET /version": ({ pve }) => VERSIONS[pve.release],

  "GET /cluster/nextid": (call) => {
    if (call.params.vmid !== undefined) {
      const vmid = vmidOf(call);
      if (ownerOf(call.pve, vmid) !== undefined) throw badParameters({ vmid: `VM ${vmid} already exists` });
      return String(vmid);
    }
    const used = new Set(membersOf(call.pve).flatMap(({ guests }) => guests.list()));
    for (let vmid = 100; ; vmid++) if (!used.has(vmid)) return String(vmid);
  },

  "GET /cluster/status": ({ pve }) => {
    const { cluster } = pve;
    const nodes = membersOf(pve).map((member, i) => ({
      id: `node/${member.nodeName}`,
      name: member.nodeName,
      type: "node",
      nodeid: cluster === undefined ? 0 : i + 1,
      ip: member.address,
      local: member === pve ? 1 : 0,
      online: 1,
      level: "",
    }));
    if (cluster === undefined) return nodes;
    const { name } = cluster;
    return [{ id: "cluster", type: "cluster", name, nodes: nodes.length, quorate: 1, version: nodes.length }, ...nodes];
  },

  "GET /cluster/tasks": () => [],

  "GET /cluster/options": ({ pve, caller }) => ({ "allowed-tags": usedTags(pve, caller) }),

  "GET /cluster/resources": ({ pve, caller, params }) =>
    membersOf(pve).flatMap((member) => resourcesOf(member, caller, params.type)),
};

function resourcesOf(pve: Pve, caller: Caller, type: string | number | undefined): Record<string, unknown>[] {
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
  const storages = pve.storages.all
    .filter(({ id }) => may(pve.accounts, caller, `/storage/${id}`, "Datastore.Audit", "Datastore.AllocateSpace"))
    .map((storage) => storageResource(pve, storage));
  return [...(wanted("vm") ? guests : []), ...(wanted("node") ? [node] : []), ...(wanted("storage") ? storages : [])];
}

/** Free-form tags are known by being used. */
function usedTags(pve: Pve, caller: Caller): string[] {
  const tags = membersOf(pve).flatMap(({ guests }) =>
    guests
      .list()
      .filter((vmid) => may(pve.accounts, caller, `/vms/${vmid}`, "VM.Audit"))
      .flatMap((vmid) => words(withPending(guests.read(vmid).config).tags ?? "")),
  );
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

export function storageResource(pve: Pve, storage: Storage): Record<string, unknown> {
  const { total, used } = storage.space();
  const { id, type, content } = storage.entry;
  return {
    id: `storage/${pve.nodeName}/${id}`,
    node: pve.nodeName,
    type: "storage",
    storage: id,
    plugintype: type,
    status: "available",
    shared: 0,
    content: content.join(","),
    disk: used,
    maxdisk: total,
  };
}
