import { existsSync, rmSync, statSync } from "node:fs";
import { may, mustHave } from "../permission.js";
import { type Call, type Handlers, type Pve, text } from "../pve.js";
import { failed } from "../refusal.js";
import { LOCAL, LOCAL_CONTENT, parseVolid } from "../storage.js";

export const storageMethods: Handlers = {
  "GET /storage": ({ pve, caller }) =>
    visible(pve, caller)
      ? [{ storage: LOCAL, type: "dir", path: pve.storage.root, content: LOCAL_CONTENT.join(","), digest: "" }]
      : [],

  "GET /storage/{storage}": ({ pve, params }) => {
    pve.storage.requireKnown(String(params.storage));
    return { storage: LOCAL, type: "dir", path: pve.storage.root, content: LOCAL_CONTENT.join(",") };
  },

  "GET /nodes/{node}/storage": ({ pve, caller, params }) => {
    const content = text(params, "content")?.split(",") ?? [];
    const holds = content.every((kind) => LOCAL_CONTENT.some((own) => own === kind));
    const named = params.storage === undefined || params.storage === LOCAL;
    return visible(pve, caller) && holds && named ? [{ storage: LOCAL, ...status(pve) }] : [];
  },

  "GET /nodes/{node}/storage/{storage}": (call) => {
    call.pve.storage.requireKnown(String(call.params.storage));
    return ["status", "content", "upload"].map((subdir) => ({ subdir }));
  },

  "GET /nodes/{node}/storage/{storage}/status": (call) => {
    call.pve.storage.requireKnown(String(call.params.storage));
    return status(call.pve);
  },

  "GET /nodes/{node}/storage/{storage}/content": ({ pve, params }) => {
    pve.storage.requireKnown(String(params.storage));
    const content = text(params, "content");
    const images = pve.storage
      .images()
      .map(({ volid, vmid }) => ({ volid, vmid, content: "rootdir", format: "raw", size: 0 }))
      .filter(({ vmid }) => params.vmid === undefined || vmid === params.vmid);
    const shown = content === undefined || content === "rootdir" || content === "images" ? images : [];
    return params.vmid === undefined ? [...pve.storage.list(content), ...shown] : shown;
  },

  "GET /nodes/{node}/storage/{storage}/content/{volume}": (call) => {
    const { volid, path, storage } = volume(call);
    mustHave(call.pve.accounts, call.caller, `/storage/${storage}`, "Datastore.Audit", "Datastore.AllocateSpace");
    if (!existsSync(path)) throw failed(`volume '${volid}' does not exist`);
    const { size, blocks } = statSync(path);
    return { path, size, used: blocks * 512, format: "raw" };
  },

  "DELETE /nodes/{node}/storage/{storage}/content/{volume}": (call) => {
    const { volid, path, storage } = volume(call);
    mustHave(call.pve.accounts, call.caller, `/storage/${storage}`, "Datastore.Allocate");
    return call.pve.tasks.start("imgdel", storage, call.caller, async (log) => {
      // A volume that is not there counts as removed.
      if (!existsSync(path)) log.line(`disk image '${path}' does not exist`);
      rmSync(path, { force: true });
      log.line(`Removed volume '${volid}'`);
    });
  },
};

function visible(pve: Pve, caller: Call["caller"]): boolean {
  return may(pve.accounts, caller, `/storage/${LOCAL}`, "Datastore.Audit", "Datastore.AllocateSpace");
}

function status(pve: Pve): Record<string, unknown> {
  const { total, used, avail } = pve.storage.space();
  return {
    type: "dir",
    content: LOCAL_CONTENT.join(","),
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
function volume({ pve, params }: Call): { volid: string; path: string; storage: string } {
  const storage = String(params.storage);
  const given = String(params.volume);
  const volid = given.includes(":") ? given : `${storage}:${given}`;
  pve.storage.requireKnown(parseVolid(volid).storage);
  if (/^\d+\//.test(parseVolid(volid).name)) throw failed(`cannot remove volume '${volid}': it belongs to a container`);
  return { volid, path: pve.storage.pathOf(volid), storage };
}
