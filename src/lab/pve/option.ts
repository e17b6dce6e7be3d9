import { words } from "./format.js";
import { splitOption } from "./guestconfig.js";
import { isRoot, may } from "./permission.js";
import type { Call } from "./pve.js";
import { forbidden } from "./refusal.js";
import { parseVolid } from "./storage.js";

/** Which privilege each option of a container needs, and which only root@pam by ticket may set (pve-api, 3 and 4). */

const BY_OPTION: Readonly<Record<string, string>> = {
  cores: "VM.Config.CPU",
  cpuunits: "VM.Config.CPU",
  cpulimit: "VM.Config.CPU",
  memory: "VM.Config.Memory",
  swap: "VM.Config.Memory",
  hostname: "VM.Config.Network",
  nameserver: "VM.Config.Network",
  searchdomain: "VM.Config.Network",
};

/** Refuses unless the caller may set (or delete) every one of the options. */
export function requireOptions(
  call: Call,
  vmid: number,
  options: Readonly<Record<string, string | undefined>>,
  pool?: string,
): void {
  for (const [key, value] of Object.entries(options)) requireOption(call, vmid, key, value, pool);
}

function requireOption(call: Call, vmid: number, key: string, value: string | undefined, pool?: string): void {
  if (isRoot(call.caller)) return;
  const kind = key.replace(/\d+$/, "");
  if (kind === "dev") throw forbidden("configuring device passthrough is only allowed for root@pam");
  if (key === "hookscript") throw forbidden("changing the hookscript is only allowed for root@pam");
  if (key === "features") {
    const others = Object.keys(splitOption(value ?? "")).some(
      (feature) => feature !== "nesting" && feature !== "volume",
    );
    if (others) throw forbidden("changing feature flags (except nesting) is only allowed for root@pam");
    requireGuest(call, vmid, "VM.Allocate", pool);
  } else if (key === "rootfs" || kind === "mp") {
    const volume = splitOption(value ?? "").volume ?? "";
    if (volume.startsWith("/"))
      throw forbidden(
        `mount point type ${volume.startsWith("/dev/") ? "device" : "bind"} is only allowed for root@pam`,
      );
    requireGuest(call, vmid, "VM.Config.Disk", pool);
  } else if (kind === "net") {
    requireGuest(call, vmid, "VM.Config.Network", pool);
    requireBridge(call, value);
  } else requireGuest(call, vmid, BY_OPTION[key] ?? "VM.Config.Options", pool);
}

/** Held on the container, or on the pool it goes into. */
function requireGuest({ pve, caller }: Call, vmid: number, privilege: string, pool: string | undefined): void {
  if (pool !== undefined && may(pve.accounts, caller, `/pool/${pool}`, privilege)) return;
  if (!may(pve.accounts, caller, `/vms/${vmid}`, privilege)) throw forbidden(`/vms/${vmid}, ${privilege}`);
}

function requireBridge({ pve, caller }: Call, value: string | undefined): void {
  const { bridge, tag } = splitOption(value ?? "");
  if (bridge === undefined) return;
  const path = `/sdn/zones/localnetwork/${bridge}${tag === undefined ? "" : `/${tag}`}`;
  if (!may(pve.accounts, caller, path, "SDN.Use")) throw forbidden(`${path}, SDN.Use`);
}

/** rootfs and mp*: space may be taken on their storage, and the storage exists. */
export function requireSpace({ pve, caller }: Call, option: string): void {
  const volume = splitOption(option).volume ?? "";
  if (volume.startsWith("/")) return;
  const { storage } = parseVolid(volume);
  const path = `/storage/${storage}`;
  if (!may(pve.accounts, caller, path, "Datastore.AllocateSpace")) throw forbidden(`${path}, Datastore.AllocateSpace`);
  pve.storages.get(storage);
}

/** Tags are kept lower-case, sorted, each once. */
export const storedTags = (tags: string): string => [...new Set(words(tags.toLowerCase()))].sort().join(";");

/** A description is kept with a newline at its end. */
export const storedDescription = (description: string): string =>
  description.endsWith("\n") ? description : `${description}\n`;
