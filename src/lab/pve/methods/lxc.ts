import { basename } from "node:path";
import { createContainer, storedNet } from "../create.js";
import { refuseLocked } from "../guest.js";
import { emptyConfig, withPending } from "../guestconfig.js";
import { requireOptions, requireSpace, storedDescription, storedTags } from "../option.js";
import { may, mustHave } from "../permission.js";
import { destroyTask } from "../power.js";
import { type Call, type Handlers, text, vmidOf } from "../pve.js";
import { badParameters, failed, forbidden } from "../refusal.js";
import { guestStatus } from "../status.js";
import { parseVolid, TEMPLATE } from "../storage.js";

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
  const sshKeys = text(params, "ssh-public-keys");
  if (sshKeys !== undefined && !validKeys(sshKeys)) throw failed("SSH public key validation error");
  const options: Record<string, string> = {};
  for (const [key, value] of Object.entries(params)) if (!NOT_OPTIONS.has(key)) options[key] = String(value);
  const rootfs = wholeRootfs(options.rootfs ?? String(DISK_GIB_DEFAULT), text(params, "storage") ?? "local");
  const { unprivileged: _, ...checked } = options;
  requireOptions(call, vmid, { ...checked, rootfs }, pool);
  const template = text(params, "ostemplate") ?? "";
  requireTemplate(call, template);
  requireSpace(call, rootfs);
  if (params.unprivileged === 0)
    throw badParameters({ unprivileged: "the lab's Proxmox VE runs unprivileged containers only" });
  if (params.restore === 1) throw badParameters({ restore: "restoring is not part of the lab's Proxmox VE" });
  if (pve.guests.has(vmid)) throw failed(`CT ${vmid} already exists on node '${pve.nodeName}'`);
  const creation = {
    vmid,
    template,
    sizeGib: diskSize(rootfs),
    options: storedOptions(options, vmid),
    sshKeys,
    password: text(params, "password"),
    start: params.start === 1,
  };
  pve.guests.write(vmid, emptyConfig({ lock: "create" }));
  if (pool !== undefined) {
    pve.accounts.pools[pool]?.vms.push(vmid);
    pve.accounts.save();
  }
  return pve.tasks.start("vzcreate", String(vmid), caller, (log, signal) =>
    createContainer(pve, caller, creation, log, signal),
  );
}

function requireAllocation({ pve, caller, params }: Call, vmid: number, pool: string | undefined): void {
  if (pool !== undefined && pve.accounts.pools[pool] === undefined) throw forbidden(`pool '${pool}' does not exist`);
  const inPool = pool !== undefined && may(pve.accounts, caller, `/pool/${pool}`, "VM.Allocate");
  // This refusal names neither path nor privilege.
  if (!inPool && !may(pve.accounts, caller, `/vms/${vmid}`, "VM.Allocate")) throw forbidden();
  if (params.unprivileged === 0) mustHave(pve.accounts, caller, "/", "Sys.Modify");
  if (params["ha-managed"] === 1) mustHave(pve.accounts, caller, "/", "Sys.Console");
}

function requireTemplate({ pve, caller }: Call, template: string): void {
  if (!/^[a-zA-Z][\w.-]*:/.test(template))
    throw failed("Only root can pass arbitrary filesystem paths. at /usr/share/perl5/PVE/Storage.pm line 651.");
  const { storage } = parseVolid(template);
  pve.storage.requireKnown(storage);
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
  for (const key of Object.keys(stored)) if (/^net\d+$/.test(key)) stored[key] = storedNet(stored[key] ?? "");
  if (stored.tags !== undefined) stored.tags = storedTags(stored.tags);
  if (stored.description !== undefined) stored.description = storedDescription(stored.description);
  return withPending(emptyConfig(stored));
}
