import { type Cloning, cloneTask, makeTemplate } from "../clone.js";
import { diskOf } from "../disk.js";
import { refuseLocked } from "../guest.js";
import { emptyConfig, splitOption } from "../guestconfig.js";
import { mustHave } from "../permission.js";
import { type Call, type Handlers, text, vmidOf } from "../pve.js";
import { badParameters, failed, forbidden } from "../refusal.js";
import { requireFree } from "./lxc.js";

export const cloneMethods: Handlers = {
  "POST /nodes/{node}/lxc/{vmid}/clone": async (call) => {
    const { pve, caller, params } = call;
    const cloning = await pve.guests.locked(vmidOf(call), async () => {
      const wanted = requestedClone(call);
      pve.guests.lock(wanted.vmid, "disk");
      pve.guests.write(wanted.newid, emptyConfig({ lock: "create" }));
      return wanted;
    });
    const pool = text(params, "pool");
    if (pool !== undefined) {
      pve.accounts.pools[pool]?.vms.push(cloning.newid);
      pve.accounts.save();
    }
    return cloneTask(pve, caller, cloning);
  },

  "POST /nodes/{node}/lxc/{vmid}/template": async (call) => {
    const { pve } = call;
    const vmid = vmidOf(call);
    await pve.guests.locked(vmid, async () => {
      const { config } = pve.guests.read(vmid);
      if (config.snapshots.size > 0) throw failed("unable to create template, because CT contains snapshots");
      refuseLocked(config);
      if (pve.runtime.running(vmid) !== undefined)
        throw failed("you can't convert a CT to template if the CT is running");
      if (config.options.template !== "1") await makeTemplate(pve, vmid);
    });
    return null;
  },
};

function requestedClone(call: Call): Cloning {
  const { pve, caller, params } = call;
  const vmid = vmidOf(call);
  const newid = Number(params.newid);
  const pool = text(params, "pool");
  if (pool !== undefined && pve.accounts.pools[pool] === undefined) throw forbidden(`pool '${pool}' does not exist`);
  if (params.target !== undefined && params.target !== pve.nodeName)
    throw badParameters({ target: "the lab's Proxmox VE clones on the same node" });
  const { config } = pve.guests.read(vmid);
  refuseLocked(config);
  const running = pve.runtime.running(vmid) !== undefined;
  const snapshot = text(params, "snapname");
  const full = params.full === undefined ? config.options.template !== "1" : params.full === 1;
  const storage = text(params, "storage");
  if (storage !== undefined && !full) throw failed("parameter 'storage' not allowed for linked clones");
  const source = snapshot === undefined ? config.options : config.snapshots.get(snapshot);
  if (source === undefined) throw failed(`snapshot '${snapshot}' does not exist`);
  const disk = diskOf(pve, source);
  const target = pve.storages.get(storage ?? disk.storage.id);
  mustHave(pve.accounts, caller, `/storage/${target.id}`, "Datastore.AllocateSpace");
  if (!target.entry.content.includes("rootdir"))
    throw badParameters({ storage: `storage '${target.id}' does not support container directories` });
  if (full && running && snapshot === undefined)
    throw failed("Cannot do full clones on a running container without snapshots");
  if (!full && !disk.storage.can("clone", disk.path))
    throw failed(`Linked clone feature for '${splitOption(source.rootfs ?? "").volume}' is not available`);
  for (const key of Object.keys(source)) if (/^net\d+$/.test(key)) requireBridgeOf(call, source[key] ?? "");
  requireFree(call, newid);
  return {
    vmid,
    newid,
    source,
    snapshot,
    full,
    storage: target.id,
    hostname: text(params, "hostname"),
    description: text(params, "description"),
  };
}

/** Only the bridge is asked for: devices and features of the source come along. */
function requireBridgeOf(call: Call, option: string): void {
  const { bridge, tag } = splitOption(option);
  if (bridge === undefined) return;
  const path = `/sdn/zones/localnetwork/${bridge}${tag === undefined ? "" : `/${tag}`}`;
  mustHave(call.pve.accounts, call.caller, path, "SDN.Use");
}
