import type { Method } from "./method.js";
import { PRIVILEGES } from "./privilege.js";
import type { Properties, Property } from "./property.js";

/** The releases of Proxmox VE that the lab can be, and in what their API differs (pve-api, 13). */
export type Release = "9.2" | "8.4";

export const VERSIONS = {
  "9.2": { version: "9.2.11", release: "9.2", repoid: "14a22df35955d97d" },
  "8.4": { version: "8.4.1", release: "8.4", repoid: "2a5fa54a8503f96d" },
} as const satisfies Record<Release, { version: string; release: string; repoid: string }>;

export const PACKAGES = {
  "9.2": [
    ["proxmox-ve", "9.2.0"],
    ["pve-manager", VERSIONS["9.2"].version],
    ["pve-container", "6.1.10"],
    ["pve-storage", "9.1.7"],
    ["libpve-access-control", "9.1.1"],
    ["lxc-pve", "6.0.5-4"],
  ],
  "8.4": [
    ["proxmox-ve", "8.4.0"],
    ["pve-manager", VERSIONS["8.4"].version],
    ["pve-container", "5.2.6"],
    ["libpve-storage-perl", "8.3.6"],
    ["libpve-access-control", "8.2.2"],
    ["lxc-pve", "6.0.0-1"],
  ],
} as const satisfies Record<Release, readonly (readonly [string, string])[]>;

/** Parameters, and keys of parameters that are property strings, that came after 8.4. */
const LATER: Readonly<Record<string, readonly string[]>> = {
  "POST /nodes/{node}/lxc": ["entrypoint", "env", "ha-managed"],
  "PUT /nodes/{node}/lxc/{vmid}/config": ["entrypoint", "env"],
  "PUT /access/users/{userid}/token/{tokenid}": ["delete", "regenerate"],
};
const LATER_KEYS: Readonly<Record<string, readonly string[]>> = {
  "net[n]": ["host-managed"],
  "mp[n]": ["idmap", "keepattrs"],
  rootfs: ["idmap"],
};
/** Parameters that 8.4 still had. */
const EARLIER: Readonly<Record<string, Properties>> = {
  "POST /nodes/{node}/vzdump": {
    maxfiles: { type: "integer", optional: 1, minimum: 1 },
    "notification-policy": { type: "string", optional: 1, enum: ["always", "failure", "never"] },
    "notification-target": { type: "string", optional: 1, format: "pve-configid" },
  },
};

export function propertiesIn(release: Release, { name, properties }: Method): Properties {
  if (release === "9.2") return properties;
  const kept = Object.entries(properties).filter(([parameter]) => !LATER[name]?.includes(parameter));
  return {
    ...Object.fromEntries(kept.map(([parameter, property]) => [parameter, older(parameter, property)])),
    ...EARLIER[name],
  };
}

function older(parameter: string, property: Property): Property {
  const later = LATER_KEYS[parameter];
  if (later === undefined || typeof property.format !== "object") return property;
  const keys = Object.entries(property.format).filter(([key]) => !later.includes(key));
  return { ...property, format: Object.fromEntries(keys) };
}

/** VM.Monitor became VM.GuestAgent.* in 9; VM.Replicate is new. */
export function knowsPrivilege(release: Release, privilege: string): boolean {
  if (release === "9.2") return PRIVILEGES.has(privilege);
  if (privilege === "VM.Monitor") return true;
  return PRIVILEGES.has(privilege) && !/^VM\.(?:GuestAgent\.|Replicate$)/.test(privilege);
}

/** Without `unprivileged`, 8.4 makes a privileged container. */
export const unprivilegedByDefault = (release: Release): boolean => release !== "8.4";
