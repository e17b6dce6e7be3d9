import { Failure } from "../../kit/failure.js";
import type { Millis } from "../../kit/time.js";
import type { Bridge, Guest, Permissions, PveHost, Storage, Volume } from "../../pve/guests.js";
import {
  holds,
  needsForClone,
  needsForCreate,
  needsForDiagnosis,
  needsForSave,
  nodePath,
} from "../../pve/permissions.js";
import type { Appliance } from "../parts.js";
import { DEFAULTS, type HostDefaults } from "../spec.js";
import { type DhcpWitness, defaultBridge } from "./network.js";
import type { Needs } from "./rights.js";
import { lookAtSource, type SourceFacts } from "./source.js";
import { defaultStorage, saveWith, takesSnapshots } from "./storage.js";
import { type ChosenTemplate, chooseTemplate } from "./template.js";

/** What is wanted of a host: whose entry, and with which options, those of the entry and those typed. */
export type Wish = {
  readonly hostName: string;
  readonly login: string;
  readonly pveNode: string | undefined;
  readonly options: HostDefaults;
  /** The entry names the host's own sshd. */
  readonly shell: boolean;
};

export type Places = {
  readonly storage: string | undefined;
  readonly templateStorage: string;
  readonly bridge: string;
};

/** All that was seen of a host for a new container; what the login may not see is undefined. */
export type HostFacts = {
  readonly version: string;
  readonly nodes: readonly { readonly name: string; readonly online: boolean }[];
  readonly node: string | undefined;
  /** Undefined when the PVE node is not there. */
  readonly inside: NodeFacts | undefined;
};

export type NodeFacts = {
  readonly node: string;
  readonly storages: readonly Storage[];
  readonly bridges: readonly Bridge[];
  /** Only asked for when one is wanted. */
  readonly pools: readonly string[];
  readonly places: Places;
  readonly needs: Needs;
  readonly held: Permissions;
  readonly template: ChosenTemplate;
  readonly appliance: Appliance | undefined;
  readonly source: SourceFacts | undefined;
  readonly kernel: string | undefined;
  readonly rootFreeBytes: number | undefined;
  readonly pveContainer: string | undefined;
  readonly skewMs: Millis | undefined;
  readonly dhcp: readonly DhcpWitness[];
};

/** Containers asked whether they got an address; the first that has one answers the question. */
const DHCP_WITNESSES_MAX = 8;

export const diskBytesOf = ({ disk = DEFAULTS.diskGib }: { readonly disk?: number | undefined }): number =>
  disk * 1024 ** 3;

export async function observeHost(
  host: PveHost,
  wish: Wish,
  guests: readonly Guest[],
  findAppliance: () => Promise<Appliance | undefined>,
): Promise<HostFacts> {
  const { options } = wish;
  const [{ version }, nodes] = await Promise.all([host.version(), host.nodes()]);
  const node = options.pveNode ?? wish.pveNode ?? nodes.find(({ online }) => online)?.name ?? nodes[0]?.name;
  if (node === undefined || nodes.find(({ name }) => name === node)?.online !== true)
    return { version, nodes, node, inside: undefined };
  return { version, nodes, node, inside: await observeNode(host, wish, node, guests, findAppliance) };
}

async function observeNode(
  host: PveHost,
  wish: Wish,
  node: string,
  guests: readonly Guest[],
  findAppliance: () => Promise<Appliance | undefined>,
): Promise<NodeFacts> {
  const { options } = wish;
  const [storages, bridges, pools, appliance, source] = await Promise.all([
    host.storages(node),
    host.bridges(node),
    options.pool === undefined ? Promise.resolve<string[]>([]) : host.pools(),
    findAppliance(),
    lookAtSource(host, wish, guests),
  ]);
  const volume = options.template?.includes(":") ? options.template : undefined;
  const templateStorage =
    volume?.split(":")[0] ?? options.templateStorage ?? defaultStorage(storages, "vztmpl", 0) ?? "local";
  const places: Places = {
    storage: options.storage ?? source?.storage ?? defaultStorage(storages, "rootdir", diskBytesOf(options)),
    templateStorage,
    bridge: source?.bridge ?? options.bridge ?? defaultBridge(bridges),
  };
  const templates: Volume[] = storages.some(({ id }) => id === templateStorage)
    ? await host.templates(node, templateStorage)
    : [];
  const template = chooseTemplate(options.template, templateStorage, templates, appliance);
  const plan = {
    node,
    storage: places.storage ?? "local",
    templateStorage,
    bridge: places.bridge,
    vlan: source === undefined ? options.vlan : source.vlan,
    pool: options.pool,
    upload: template.kind === "upload",
  };
  const needs: Needs = {
    create: source === undefined ? needsForCreate(plan) : needsForClone({ ...plan, source: source.vmid }),
    upgrade: saveNeeds(storages, plan),
    diagnosis: needsForDiagnosis(plan),
  };
  const paths = [...needs.create, ...needs.upgrade, ...needs.diagnosis].map(({ path }) => path);
  const held = await host.permissions(paths);
  const mayAudit = holds(held, nodePath(node), "Sys.Audit");
  const [status, packages, skewMs, dhcp] = await Promise.all([
    mayAudit ? advisory(host.nodeStatus(node)) : undefined,
    mayAudit ? advisory(host.packages(node)) : undefined,
    host.skewMs(),
    (options.ip ?? DEFAULTS.ip) === "dhcp" ? dhcpWitnesses(host, node, plan, guests) : [],
  ]);
  return {
    node,
    storages,
    bridges,
    pools,
    places,
    needs,
    held,
    template,
    appliance,
    source,
    kernel: status?.kernel,
    rootFreeBytes: status?.rootFreeBytes,
    pveContainer: packages?.get("pve-container"),
    skewMs,
    dhcp,
  };
}

/** Where the login does not see the storage, whatever it may come to without stopping the container. */
function saveNeeds(
  storages: readonly Storage[],
  { storage, pool }: { readonly storage: string; readonly pool: string | undefined },
): Needs["upgrade"] {
  const plan = { pool, rootStorage: storage };
  if (!storages.some(({ id }) => id === storage))
    return [...needsForSave("snapshot", plan), ...needsForSave("backup", plan)];
  const { how, backupStorage } = saveWith(storages, takesSnapshots(storages, storage));
  return needsForSave(how, { ...plan, backupStorage });
}

/** What only makes the report better: a host that refuses it is no worse for that. */
export async function advisory<T>(asked: Promise<T>): Promise<T | undefined> {
  return asked.catch((error: unknown) => {
    if (error instanceof Failure && REFUSED.has(error.code)) return undefined;
    throw error;
  });
}
const REFUSED = new Set(["permission-missing", "call-unknown", "pve-error", "container-unknown"]);

/** Running containers on that bridge and VLAN which ask for an address there. */
async function dhcpWitnesses(
  host: PveHost,
  node: string,
  { bridge, vlan }: { readonly bridge: string; readonly vlan: number | undefined },
  guests: readonly Guest[],
): Promise<DhcpWitness[]> {
  const running = guests.filter((guest) => guest.type === "lxc" && guest.node === node && guest.status === "running");
  const asked = await Promise.all(
    running.slice(0, DHCP_WITNESSES_MAX).map(async ({ vmid, name }): Promise<DhcpWitness[]> => {
      const net0 = (await advisory(host.config(node, vmid)))?.options.net0 ?? "";
      const has = (part: string): boolean => net0.split(",").includes(part);
      if (
        !has(`bridge=${bridge}`) ||
        !has("ip=dhcp") ||
        (vlan === undefined ? /,tag=/.test(net0) : !has(`tag=${vlan}`))
      )
        return [];
      const interfaces = (await advisory(host.interfaces(node, vmid))) ?? [];
      const all = interfaces.flatMap((one) => (one.name === "eth0" ? one.addresses : []));
      return [{ vmid, name, address: all.find((ip) => ip.includes(".") && !ip.startsWith("169.254.")) }];
    }),
  );
  return asked.flat();
}
