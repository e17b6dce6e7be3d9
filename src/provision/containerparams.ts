import type { CreateParams, PveParams } from "../pve/guests.js";
import { type Identity, TAG, writeIdentity } from "./identity.js";
import type { HostDefaults } from "./spec.js";
import { DEFAULTS, type ExitNodeSpec } from "./spec.js";
import type { OwnContainer, Placement } from "./view.js";

/** The container as the API is asked for it: unprivileged, small, started at boot, and recognisable as ours. */
export function createParams(wanted: {
  readonly spec: ExitNodeSpec;
  readonly defaults: HostDefaults;
  readonly placement: Placement;
  readonly vmid: number;
  readonly identity: Identity;
  readonly publicKey: string;
  readonly mayPassDevices: boolean;
}): CreateParams {
  const { spec, placement } = wanted;
  const options = { ...wanted.defaults, ...spec.given };
  const { template } = placement;
  if (template.kind === "clone") throw new Error("a clone is asked for without these");
  return {
    vmid: wanted.vmid,
    ostemplate: template.kind === "on-host" ? template.volid : `${placement.templateStorage}:vztmpl/${template.name}`,
    hostname: spec.name,
    unprivileged: true,
    cores: spec.cores,
    memory: spec.memoryMib,
    // Swapped-out packets are late packets.
    swap: 0,
    rootfs: `${placement.storage}:${options.disk ?? DEFAULTS.diskGib}`,
    net0: networkOption(placement.bridge, options),
    // systemd asks for nesting; any other feature is root@pam's alone.
    features: "nesting=1",
    onboot: true,
    tags: TAG,
    description: writeIdentity("", wanted.identity),
    "ssh-public-keys": wanted.publicKey,
    ...(options.pool === undefined ? {} : { pool: options.pool }),
    // Harmless where the kernel has WireGuard, and spares a second start where it has not.
    ...(wanted.mayPassDevices && spec.dataPlane !== "kernel" ? TUN : {}),
  };
}

/** What a clone is not given by its source; size, tags and start at boot are put right as on any container of ours. */
export function cloneParams(wanted: {
  readonly spec: ExitNodeSpec;
  readonly defaults: HostDefaults;
  readonly placement: Placement;
  readonly vmid: number;
  readonly identity: Identity;
}): PveParams & { readonly newid: number } {
  const { pool, storage } = { ...wanted.defaults, ...wanted.spec.given };
  return {
    newid: wanted.vmid,
    hostname: wanted.spec.name,
    description: writeIdentity("", wanted.identity),
    // A linked one would keep the source from ever being removed.
    full: true,
    storage: storage ?? wanted.placement.storage,
    ...(pool === undefined ? {} : { pool }),
  };
}

/** 0666: the agent is not root, and the node belongs to root. */
export const TUN: PveParams = { dev0: "/dev/net/tun,mode=0666" };

function networkOption(bridge: string, options: HostDefaults): string {
  const ip6 = options.ip6 ?? DEFAULTS.ip6;
  const parts = [
    "name=eth0",
    `bridge=${bridge}`,
    ...(options.vlan === undefined ? [] : [`tag=${options.vlan}`]),
    `ip=${options.ip ?? DEFAULTS.ip}`,
    ...(options.gateway === undefined ? [] : [`gw=${options.gateway}`]),
    ...(ip6 === "none" ? [] : [`ip6=${ip6}`]),
    ...(options.gateway6 === undefined ? [] : [`gw6=${options.gateway6}`]),
  ];
  return parts.join(",");
}

/** What an existing container was made with, as the options would name it. */
export function settledOptions(container: OwnContainer): Readonly<Record<string, string | number | undefined>> {
  const net = new Map(pairs(container.config.options.net0 ?? ""));
  const [storage = "", ...rest] = (container.config.options.rootfs ?? "").split(/[:,]/);
  const disk = rest.find((part) => part.startsWith("size="))?.replace(/^size=(\d+)G$/, "$1");
  return {
    ...withoutLists(container.identity.given),
    pveNode: container.node,
    vmid: container.vmid,
    storage,
    disk,
    bridge: net.get("bridge"),
    vlan: net.get("tag"),
    ip: net.get("ip"),
    gateway: net.get("gw"),
    ip6: net.get("ip6") ?? "none",
    gateway6: net.get("gw6"),
  };
}

function withoutLists({ allowLan: _, ...rest }: Identity["given"]): Record<string, string | number | undefined> {
  return rest;
}

function pairs(text: string): [string, string][] {
  return text.split(",").map((part) => {
    const [key = "", ...value] = part.split("=");
    return [key, value.join("=")];
  });
}
