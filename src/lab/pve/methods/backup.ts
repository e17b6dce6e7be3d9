import { existsSync } from "node:fs";
import { backupOwner } from "../archive.js";
import { type BackupJob, backupTask } from "../backup.js";
import { words } from "../format.js";
import { isRoot, mustHave } from "../permission.js";
import { type Call, type Handlers, text } from "../pve.js";
import { badParameters, failed } from "../refusal.js";
import { packedConfig } from "../restore.js";
import { LOCAL, parseVolid } from "../storage.js";

export const backupMethods: Handlers = {
  "POST /nodes/{node}/vzdump": (call) => backupTask(call.pve, call.caller, requestedJob(call)),

  "GET /nodes/{node}/vzdump/defaults": (call) => {
    const storage = text(call.params, "storage") ?? LOCAL;
    mustHave(call.pve.accounts, call.caller, `/storage/${storage}`, "Datastore.Audit", "Datastore.AllocateSpace");
    return { storage, mode: "snapshot", compress: "zstd", ionice: 7, lockwait: 180, stopwait: 10, remove: 1 };
  },

  "GET /nodes/{node}/vzdump/extractconfig": async (call) => {
    const volid = String(call.params.volume);
    requireArchive(call, volid);
    const { path } = call.pve.storages.locate(volid);
    if (!existsSync(path)) throw failed(`volume '${volid}' does not exist`);
    return (await packedConfig(path)).text;
  },
};

/** Whoever may see and restore a backup may back up the container it came from. */
export function requireArchive({ pve, caller }: Call, volid: string): void {
  const { storage } = parseVolid(volid);
  mustHave(pve.accounts, caller, `/storage/${storage}`, "Datastore.AllocateSpace");
  const owner = backupOwner(volid);
  if (owner !== undefined) mustHave(pve.accounts, caller, `/vms/${owner}`, "VM.Backup");
}

const ROOT_ONLY = ["tmpdir", "dumpdir", "script", "job-id"];
const FORMATS = { "0": "tar", "1": "tar.lzo", gzip: "tar.gz", lzo: "tar.lzo", zstd: "tar.zst" } as const;

function requestedJob(call: Call): BackupJob {
  const { pve, caller, params } = call;
  const forRoot = ROOT_ONLY.filter((name) => params[name] !== undefined);
  if (!isRoot(caller) && forRoot.length > 0)
    throw badParameters(Object.fromEntries(forRoot.map((name) => [name, "Only root may set this option."])));
  for (const name of ["bwlimit", "performance", "ionice"])
    if (params[name] !== undefined) mustHave(pve.accounts, caller, "/", "Sys.Modify");
  if (params.stop === 1) mustHave(pve.accounts, caller, `/nodes/${pve.nodeName}`, "Sys.Modify");
  const storage = text(params, "storage") ?? LOCAL;
  if (params["prune-backups"] !== undefined)
    mustHave(pve.accounts, caller, `/storage/${storage}`, "Datastore.Allocate");
  mustHave(pve.accounts, caller, `/storage/${storage}`, "Datastore.AllocateSpace");
  pve.storages.get(storage);
  const vmids = words(text(params, "vmid") ?? "").map(Number);
  if (params.vmid === undefined && params.all !== 1)
    throw badParameters({ vmid: "property is missing and it is not optional" });
  const format = FORMATS[String(params.compress ?? "0") as keyof typeof FORMATS];
  if (format === "tar.lzo")
    throw badParameters({ compress: "the lab's Proxmox VE packs with zstd, gzip or not at all" });
  return {
    vmids: params.all === 1 ? pve.guests.list() : vmids,
    storage,
    mode: (text(params, "mode") ?? "snapshot") as BackupJob["mode"],
    format,
    notes: text(params, "notes-template"),
    protected: params.protected === 1,
    command: commandLine(params),
  };
}

function commandLine({ vmid, node, ...given }: Call["params"]): string {
  const options = Object.entries({ node, ...given }).map(([name, value]) => {
    const word = String(value);
    return `--${name} ${/^[\w.:/@-]+$/.test(word) ? word : `'${word}'`}`;
  });
  return ["vzdump", ...words(String(vmid ?? "")), ...options].join(" ");
}
