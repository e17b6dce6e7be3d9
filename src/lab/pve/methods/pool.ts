import { ownerOf } from "../cluster.js";
import { words } from "../format.js";
import { may, mustHave } from "../permission.js";
import { type Call, type Handlers, type Pve, text } from "../pve.js";
import { failed, Refusal } from "../refusal.js";
import { storageResource } from "./cluster.js";

/** Pools: containers and storages that one grant covers. */
export const poolMethods: Handlers = {
  "GET /pools": (call) => {
    const { pve, caller, params } = call;
    const poolid = text(params, "poolid");
    if (poolid !== undefined) return [{ poolid, ...describe(pve, poolid) }];
    return Object.entries(pve.accounts.pools)
      .filter(([name]) => may(pve.accounts, caller, `/pool/${name}`, "Pool.Audit"))
      .map(([name, pool]) => ({ poolid: name, ...(pool.comment === undefined ? {} : { comment: pool.comment }) }));
  },
  "GET /pools/{poolid}": ({ pve, params }) => describe(pve, String(params.poolid)),

  "POST /pools": ({ pve, params }) => {
    const poolid = String(params.poolid);
    if (pve.accounts.pools[poolid] !== undefined) throw failed(`create pool failed: pool '${poolid}' already exists`);
    const comment = text(params, "comment");
    pve.accounts.pools[poolid] = { vms: [], storage: [], ...(comment === undefined ? {} : { comment }) };
    pve.accounts.save();
    return null;
  },
  "PUT /pools": update,
  "PUT /pools/{poolid}": update,
  "DELETE /pools": remove,
  "DELETE /pools/{poolid}": remove,
};

function knownPool(pve: Pve, poolid: string): Pve["accounts"]["pools"][string] {
  const pool = pve.accounts.pools[poolid];
  if (pool === undefined) throw failed(`pool '${poolid}' does not exist`);
  return pool;
}

function describe(pve: Pve, poolid: string): Record<string, unknown> {
  const pool = knownPool(pve, poolid);
  const members = [
    ...pool.vms.map((vmid) => {
      const owner = ownerOf(pve, vmid) ?? pve;
      const status = owner.runtime.running(vmid) === undefined ? "stopped" : "running";
      return { id: `lxc/${vmid}`, node: owner.nodeName, type: "lxc", vmid, status };
    }),
    ...pve.storages.all.filter(({ id }) => pool.storage.includes(id)).map((storage) => storageResource(pve, storage)),
  ];
  return { ...(pool.comment === undefined ? {} : { comment: pool.comment }), members };
}

function update({ pve, caller, params }: Call): null {
  const pool = knownPool(pve, String(params.poolid));
  if (params.comment !== undefined) pool.comment = String(params.comment);
  const leave = params.delete === 1;
  try {
    for (const vmid of words(String(params.vms ?? "")).map(Number)) {
      mustHave(pve.accounts, caller, `/vms/${vmid}`, "Permissions.Modify", "VM.Allocate");
      pool.vms = [...pool.vms.filter((member) => member !== vmid), ...(leave ? [] : [vmid])];
    }
    for (const storage of words(String(params.storage ?? ""))) {
      mustHave(pve.accounts, caller, `/storage/${storage}`, "Permissions.Modify", "Datastore.Allocate");
      pool.storage = [...pool.storage.filter((member) => member !== storage), ...(leave ? [] : [storage])];
    }
  } catch (error) {
    if (error instanceof Refusal) throw failed(`update pools failed: ${error.status} ${error.message}`);
    throw error;
  }
  pve.accounts.save();
  return null;
}

function remove({ pve, params }: Call): null {
  const poolid = String(params.poolid);
  const pool = knownPool(pve, poolid);
  if (pool.vms.length + pool.storage.length > 0) throw failed(`delete pool failed: pool '${poolid}' is not empty`);
  delete pve.accounts.pools[poolid];
  pve.accounts.dropGrantsAt(`/pool/${poolid}`);
  return null;
}
