import { basename } from "node:path";
import { backupOwner } from "../archive.js";
import { ownerOf } from "../cluster.js";
import { createContainer } from "../create.js";
import { refuseLocked } from "../guest.js";
import { emptyConfig } from "../guestconfig.js";
import { storedNet } from "../network.js";
import { requireOptions, requireSpace, storedDescription, storedTags } from "../option.js";
import { may, mustHave } from "../permission.js";
import { destroyTask } from "../power.js";
import { type Call, type Handlers, type Pve, text, vmidOf } from "../pve.js";
import { badParameters, failed, forbidden } from "../refusal.js";
import { unprivilegedByDefault } from "../release.js";
import { restoreContainer } from "../restore.js";
import { guestStatus } from "../status.js";
import { LOCAL, parseVolid, TEMPLATE } from "../storage.js";
import { requireArchive } from "./backup.js";

export const lxcMethods: Handlers = {
  "GET /nodes/{node}/lxc": ({ pve, caller }) =>
    pve.guests
      .list()
      .filter((vmid) => may(pve.accounts, caller, `/vms/${vmid}`, "VM.Audit"))
      .map((vmid) => guestStatus(pve, vmid)),

  "GET /nodes/{node}/lxc/{vmid}": (call) => {
    call.pve.guests.read(vmidOf(call));
    const names = ["config", "pending", "status", "firewall", "snapshot", "resize", "interfaces"];
    return names.map((subdir) => ({ subdir }));
  },

  "POST /nodes/{node}/lxc": create,

  "DELETE /nodes/{node}/lxc/{vmid}": (call) => {
    const { pve, caller, params } = call;
    const vmid = vmidOf(call);
    const { config } = pve.guests.read(vmid);
    if (config.options.protection === "1") throw failed(`can't remove CT ${vmid} - protection mode enabled`);
    refuseLocked(config);
    const force = params.force === 1;
    if (!force && pve.runtime.running(vmid) !== undefined)
      throw failed(`unable to destroy CT ${vmid} - container is running`);
    return destroyTask(pve, caller, vmid, { force, purge: params.purge === 1 });
  },
};

/** Parameters of create that are not options of the configuration. */
const NOT_OPTIONS = new Set([
  ...["node", "vmid", "ostemplate", "password", "ssh-public-keys", "storage", "pool", "start", "force", "restore"],
  ...["unique", "bwlimit", "ignore-unpack-errors", "ha-managed"],
]);
/** What Proxmox allocates when asked for nothing, in GiB. */
const DISK_GIB_DEFAULT = 4;

function create(call: Call): unknown {
  const { pve, caller, params } = call;
  const vmid = vmidOf(call);
  const pool = text(params, "pool");
  requireAllocation(call, vmid, pool);
  if (params.restore === 1) return restore(call, vmid, pool);
  const sshKeys = text(params, "ssh-public-keys");
  if (sshKeys !== undefined && !validKeys(sshKeys)) throw failed("SSH public key validation error");
  const options = givenOptions(params);
  const rootfs = wholeRootfs(options.rootfs ?? String(DISK_GIB_DEFAULT), text(params, "storage") ?? "local");
  const { unprivileged: _, ...checked } = options;
  requireOptions(call, vmid, { ...checked, rootfs }, pool);
  const template = text(params, "ostemplate") ?? "";
  requireTemplate(call, template);
  requireSpace(call, rootfs);
  requireUnprivileged(call);
  requireFree(call, vmid);
  const creation = {
    vmid,
    template,
    storage: parseVolid(rootfs).storage,
    sizeGib: diskSize(rootfs),
    options: storedOptions(options, vmid),
    sshKeys,
    password: text(params, "password"),
    start: params.start === 1,
  };
  pve.guests.write(vmid, emptyConfig({ lock: "create" }));
  joinPool(pve, pool, vmid);
  return pve.tasks.start("vzcreate", String(vmid), caller, (log, signal) =>
    createContainer(pve, caller, creation, log, signal),
  );
}

function givenOptions(params: Call["params"]): Record<string, string> {
  const given = Object.entries(params).filter(([key]) => !NOT_OPTIONS.has(key));
  return Object.fromEntries(given.map(([key, value]) => [key, String(value)]));
}

/** Create with restore=1: a container from a backup, or, with force=1, in the place of a stopped one. */
function restore(call: Call, vmid: number, pool: string | undefined): unknown {
  const { pve, caller, params } = call;
  const { rootfs, ...options } = givenOptions(params);
  const archive = text(params, "ostemplate") ?? "";
  // Whether it is privileged stands in the backup.
  const disk = wholeRootfs(rootfs ?? `${text(params, "storage") ?? LOCAL}:`, text(params, "storage") ?? LOCAL);
  const { unprivileged: _, ...checked } = options;
  requireOptions(call, vmid, { ...checked, ...(rootfs === undefined ? {} : { rootfs: disk }) }, pool);
  if (backupOwner(archive) === undefined) requireTemplate(call, archive);
  else requireArchive(call, archive);
  const storage = disk.split(":")[0] ?? LOCAL;
  requireSpace(call, `${storage}:0`);
  if (params.unprivileged === 0) requireUnprivileged(call);
  const before = pve.guests.has(vmid) ? pve.guests.read(vmid).config : undefined;
  if (before === undefined) requireFree(call, vmid);
  else {
    if (params.force !== 1) requireFree(call, vmid);
    if (pve.runtime.running(vmid) !== undefined) throw failed("can't overwrite running container");
    if (before.options.protection === "1") throw failed(`can't remove CT ${vmid} - protection mode enabled`);
    refuseLocked(before);
  }
  const restoration = {
    vmid,
    archive,
    storage,
    sizeGib: rootfs === undefined ? undefined : diskSize(disk),
    options: storedGiven(options),
    unique: params.unique === 1,
    start: params.start === 1,
  };
  pve.guests.write(vmid, { ...(before ?? emptyConfig()), options: { ...before?.options, lock: "create" } });
  joinPool(pve, pool, vmid);
  return pve.tasks.start("vzrestore", String(vmid), caller, (log, signal) =>
    restoreContainer(pve, caller, restoration, before, log, signal),
  );
}

/** A number is one container's in the whole cluster. */
export function requireFree({ pve }: Call, vmid: number): void {
  const owner = ownerOf(pve, vmid);
  if (owner !== undefined) throw failed(`CT ${vmid} already exists on node '${owner.nodeName}'`);
}

function joinPool(pve: Pve, pool: string | undefined, vmid: number): void {
  if (pool === undefined) return;
  pve.accounts.pools[pool]?.vms.push(vmid);
  pve.accounts.save();
}

function requireUnprivileged({ pve, params }: Call): void {
  const asked = params.unprivileged ?? (unprivilegedByDefault(pve.release) ? 1 : 0);
  if (asked === 0) throw badParameters({ unprivileged: "the lab's Proxmox VE runs unprivileged containers only" });
}

function requireAllocation({ pve, caller, params }: Call, vmid: number, pool: string | undefined): void {
  if (pool !== undefined && pve.accounts.pools[pool] === undefined) throw forbidden(`pool '${pool}' does not exist`);
  const inPool = pool !== undefined && may(pve.accounts, caller, `/pool/${pool}`, "VM.Allocate");
  // Over a container that is there, whoever may back it up may restore.
  const over = params.restore === 1 && params.force === 1 && pve.guests.has(vmid);
  if (over && may(pve.accounts, caller, `/vms/${vmid}`, "VM.Backup")) return;
  // This refusal names neither path nor privilege.
  if (!inPool && !may(pve.accounts, caller, `/vms/${vmid}`, "VM.Allocate")) throw forbidden();
  if (params.unprivileged === 0 && pve.release !== "8.4") mustHave(pve.accounts, caller, "/", "Sys.Modify");
  if (params["ha-managed"] === 1) mustHave(pve.accounts, caller, "/", "Sys.Console");
}

function requireTemplate({ pve, caller }: Call, template: string): void {
  if (!/^[a-zA-Z][\w.-]*:/.test(template))
    throw failed("Only root can pass arbitrary filesystem paths. at /usr/share/perl5/PVE/Storage.pm line 651.");
  const { storage } = parseVolid(template);
  pve.storages.get(storage);
  mustHave(pve.accounts, caller, `/storage/${storage}`, "Datastore.AllocateSpace", "Datastore.Audit");
  if (!TEMPLATE.test(basename(template))) throw failed(`unable to parse directory volume name '${template}'`);
}

/** A bare size is meant on the storage that was named apart. */
const wholeRootfs = (rootfs: string, storage: string): string => (/^\d/.test(rootfs) ? `${storage}:${rootfs}` : rootfs);

/** `local:2` asks for two GiB. */
function diskSize(rootfs: string): number {
  const size = /^[\w.-]+:(\d+(?:\.\d+)?)(?:,|$)/.exec(rootfs)?.[1];
  if (size === undefined) throw failed(`unable to parse volume ID '${rootfs}'`);
  return Number(size);
}

function validKeys(text: string): boolean {
  const lines = decode(text)
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "" && !line.startsWith("#"));
  return lines.every((line) => /(?:^|\s)(?:ssh-|ecdsa-|sk-)\S+\s+[A-Za-z0-9+/]{16,}={0,3}(?:\s|$)/.test(line));
}

const decode = (text: string): string => text.replaceAll("\r", "");

function storedOptions(options: Record<string, string>, vmid: number): Record<string, string> {
  const stored: Record<string, string> = {
    memory: "512",
    swap: "512",
    unprivileged: "1",
    hostname: `CT${vmid}`,
    ...options,
  };
  delete stored.rootfs;
  return storedGiven(stored);
}

/** Options as Proxmox writes them down. */
function storedGiven(options: Record<string, string>): Record<string, string> {
  const stored = { ...options };
  for (const key of Object.keys(stored)) if (/^net\d+$/.test(key)) stored[key] = storedNet(stored[key] ?? "");
  if (stored.tags !== undefined) stored.tags = storedTags(stored.tags);
  if (stored.description !== undefined) stored.description = storedDescription(stored.description);
  return stored;
}
