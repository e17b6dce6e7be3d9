import { existsSync, rmSync, statSync } from "node:fs";
import { backupOwner, isProtected, readNotes, removeArchive, setProtected, writeNotes } from "../archive.js";
import { may, mustHave } from "../permission.js";
import { type Call, type Handlers, type Pve, text } from "../pve.js";
import { badParameters, failed } from "../refusal.js";
import { parseVolid, type Storage } from "../storage.js";
import { requireArchive } from "./backup.js";

export const storageMethods: Handlers = {
  "GET /storage": ({ pve, caller }) => visible(pve, caller).map((storage) => ({ ...described(storage), digest: "" })),

  "GET /storage/{storage}": ({ pve, params }) => described(pve.storages.get(String(params.storage))),

  "GET /nodes/{node}/storage": ({ pve, caller, params }) => {
    const content = text(params, "content")?.split(",") ?? [];
    return visible(pve, caller)
      .filter(({ entry }) => content.every((kind) => entry.content.includes(kind)))
      .filter(({ id }) => params.storage === undefined || params.storage === id)
      .map((storage) => ({ storage: storage.id, ...status(storage) }));
  },

  "GET /nodes/{node}/storage/{storage}": (call) => {
    call.pve.storages.get(String(call.params.storage));
    return ["status", "content", "upload"].map((subdir) => ({ subdir }));
  },

  "GET /nodes/{node}/storage/{storage}/status": (call) => status(call.pve.storages.get(String(call.params.storage))),

  "GET /nodes/{node}/storage/{storage}/content": ({ pve, caller, params }) => {
    const storage = pve.storages.get(String(params.storage));
    const content = text(params, "content");
    const disks = storage
      .disks()
      .map(({ volid, vmid, format }) => ({ volid, vmid, content: "rootdir", format, size: 0 }));
    const shown = content === undefined || content === "rootdir" || content === "images" ? disks : [];
    const mayRead = (owner: number | undefined): boolean =>
      owner === undefined || may(pve.accounts, caller, `/vms/${owner}`, "VM.Backup");
    return [...storage.list(content).filter(({ vmid }) => mayRead(vmid)), ...shown].filter(
      ({ vmid }) => params.vmid === undefined || vmid === params.vmid,
    );
  },

  "GET /nodes/{node}/storage/{storage}/content/{volume}": (call) => {
    const { volid, path, storage, owner } = volume(call);
    if (owner === undefined)
      mustHave(call.pve.accounts, call.caller, `/storage/${storage}`, "Datastore.Audit", "Datastore.AllocateSpace");
    else requireArchive(call, volid);
    if (!existsSync(path)) throw failed(`volume '${volid}' does not exist`);
    const { size, blocks } = statSync(path);
    const notes = readNotes(path);
    return {
      path,
      size,
      used: blocks * 512,
      format: "raw",
      ...(owner === undefined ? {} : { protected: isProtected(path) ? 1 : 0 }),
      ...(notes === undefined ? {} : { notes }),
    };
  },

  "PUT /nodes/{node}/storage/{storage}/content/{volume}": (call) => {
    const { volid, path, storage, owner } = volume(call);
    if (owner === undefined) {
      mustHave(call.pve.accounts, call.caller, `/storage/${storage}`, "Datastore.Allocate");
      throw badParameters({ notes: `attribute 'notes' is not supported for volume '${volid}'` });
    }
    requireArchive(call, volid);
    if (!existsSync(path)) throw failed(`volume '${volid}' does not exist`);
    const notes = text(call.params, "notes");
    if (notes !== undefined) writeNotes(path, notes);
    if (call.params.protected !== undefined) setProtected(path, call.params.protected === 1);
    return null;
  },

  "DELETE /nodes/{node}/storage/{storage}/content/{volume}": (call) => {
    const { volid, path, storage, owner } = volume(call);
    if (owner === undefined) mustHave(call.pve.accounts, call.caller, `/storage/${storage}`, "Datastore.Allocate");
    else requireArchive(call, volid);
    const id = owner === undefined ? storage : `${owner}@${storage}`;
    return call.pve.tasks.start("imgdel", id, call.caller, async (log) => {
      if (owner !== undefined && isProtected(path))
        throw new Error(`cannot remove protected volume '${parseVolid(volid).name}' on '${storage}'`);
      // A volume that is not there counts as removed.
      if (!existsSync(path)) log.line(`disk image '${path}' does not exist`);
      if (owner === undefined) rmSync(path, { force: true });
      else removeArchive(path);
      log.line(`Removed volume '${volid}'`);
    });
  },
};

function visible(pve: Pve, caller: Call["caller"]): Storage[] {
  return pve.storages.all.filter(({ id }) =>
    may(pve.accounts, caller, `/storage/${id}`, "Datastore.Audit", "Datastore.AllocateSpace"),
  );
}

function described({ entry: { id, type, content }, root }: Storage): Record<string, unknown> {
  const place = type === "zfspool" ? { pool: "rpool/data", sparse: 1 } : { path: root };
  return { storage: id, type, ...place, content: content.join(",") };
}

function status(storage: Storage): Record<string, unknown> {
  const { total, used, avail } = storage.space();
  return {
    type: storage.entry.type,
    content: storage.entry.content.join(","),
    active: 1,
    enabled: 1,
    shared: 0,
    total,
    used,
    avail,
    used_fraction: total === 0 ? 0 : used / total,
  };
}

/** The volume in the path: a whole id, or its name on the storage of the path. Disks are no one's to remove here. */
function volume({ pve, params }: Call): { volid: string; path: string; storage: string; owner: number | undefined } {
  const given = String(params.volume);
  const volid = given.includes(":") ? given : `${String(params.storage)}:${given}`;
  const { path, storage } = pve.storages.locate(volid);
  if (path.startsWith(`${storage.root}/images/`))
    throw failed(`cannot remove volume '${volid}': it belongs to a container`);
  return { volid, path, storage: storage.id, owner: backupOwner(volid) };
}
