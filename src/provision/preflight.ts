import { Failure } from "../kit/failure.js";
import type { Bridge, Guest, PveHost, Storage, Volume } from "../pve/guests.js";
import { missing, needsForCreate, pveumLines } from "../pve/permissions.js";
import { isOurTemplate } from "./identity.js";
import type { Appliance, HostRequest } from "./parts.js";
import { DEFAULTS, type ExitNodeSpec } from "./spec.js";
import type { Placement } from "./view.js";

/** Everything that can be refused before anything is made is refused here: nothing is left on the host. */
export async function place(
  host: PveHost,
  request: HostRequest,
  spec: ExitNodeSpec,
  guests: readonly Guest[],
  findAppliance: () => Promise<Appliance | undefined>,
): Promise<Placement> {
  const wanted = { ...request.defaults, ...spec.given };
  refuseTaken(spec, guests);
  const node = await chooseNode(host, wanted.pveNode ?? request.pveNode);
  const [storages, bridges, pools, appliance] = await Promise.all([
    host.storages(node),
    host.bridges(node),
    wanted.pool === undefined ? Promise.resolve<string[]>([]) : host.pools(),
    findAppliance(),
  ]);
  const diskBytes = diskBytesOf(wanted);
  const storage = wanted.storage ?? defaultStorage(storages, "rootdir", diskBytes);
  const namedTemplate = wanted.template?.includes(":") ? wanted.template : undefined;
  const templateStorage =
    namedTemplate?.split(":")[0] ?? wanted.templateStorage ?? defaultStorage(storages, "vztmpl", 0);
  const bridge = wanted.bridge ?? defaultBridge(bridges);
  const templates = storages.some(({ id }) => id === templateStorage)
    ? await host.templates(node, templateStorage ?? "")
    : [];
  const template = chooseTemplate(wanted.template, templateStorage ?? "local", templates, appliance);

  // Permissions before the rest: whoever may not see a storage is told so, and not that it does not exist.
  const needs = needsForCreate({
    node,
    storage: storage ?? "local",
    templateStorage: templateStorage ?? "local",
    bridge,
    vlan: wanted.vlan,
    pool: wanted.pool,
    upload: template.kind === "upload",
  });
  const lacking = missing(await host.permissions(needs.map(({ path }) => path)), needs);
  if (lacking.length > 0)
    throw new Failure(
      "permissions-missing",
      `${request.login} lacks ${lacking.map(({ path, anyOf }) => `${anyOf.join(" or ")} on ${path}`).join(", ")}`,
      { advice: ["on the Proxmox host, as root:", ...pveumLines(request.login, lacking)].join("\n") },
    );
  if (wanted.pool !== undefined && !pools.includes(wanted.pool))
    throw new Failure("pool-unknown", `there is no pool "${wanted.pool}" on the host; there is: ${list(pools)}`, {
      advice: `on the Proxmox host: pveum pool add ${wanted.pool}`,
    });
  if (bridges.length > 0 && !bridges.some(({ name }) => name === bridge))
    throw new Failure(
      "bridge-unknown",
      `there is no bridge "${bridge}" on ${node}; there is: ${list(bridges.map(({ name }) => name))}`,
      {
        advice: `exitnode create --host ${request.hostName} --bridge ${bridges[0]?.name ?? "vmbr0"}`,
      },
    );
  const checked = (id: string | undefined, content: "rootdir" | "vztmpl", bytes: number): string =>
    checkStorage(storages, id, content, bytes, { node, host: request.hostName });
  checked(templateStorage, "vztmpl", template.kind === "upload" ? (appliance?.sizeBytes ?? 0) : 0);
  if (template.kind === "missing") throw template.failure;
  return {
    node,
    storage: checked(storage, "rootdir", diskBytes),
    templateStorage: templateStorage ?? "local",
    bridge,
    template,
  };
}

/** The first storage with room, or else the first that may hold such content at all. */
export function defaultStorage(
  storages: readonly Storage[],
  content: "rootdir" | "vztmpl",
  bytes: number,
): string | undefined {
  const fit = storages.filter((storage) => storage.active && storage.content.includes(content));
  return (fit.find(({ availBytes }) => availBytes >= bytes) ?? fit[0])?.id;
}

/** What an installation of Proxmox VE has, or else the first there is. */
export const defaultBridge = (bridges: readonly Bridge[]): string =>
  (bridges.find(({ name }) => name === "vmbr0") ?? bridges[0])?.name ?? "vmbr0";

export const diskBytesOf = ({ disk = DEFAULTS.diskGib }: { readonly disk?: number | undefined }): number =>
  disk * 1024 ** 3;

/** The newest of our templates among a storage's volumes. */
export const newestTemplate = (volumes: readonly Volume[]): Volume | undefined =>
  volumes
    .filter(({ volid }) => isOurTemplate(volid))
    .sort((left, right) => right.createdAtSeconds - left.createdAtSeconds)[0];

function refuseTaken(spec: ExitNodeSpec, guests: readonly Guest[]): void {
  const named = guests.find(({ name }) => name === spec.name);
  if (named !== undefined)
    throw new Failure(
      "name-taken",
      `the host has a guest called "${spec.name}" already: ${named.vmid}, and it is not ours`,
      {
        advice: "choose another name: exitnode create --name NAME",
      },
    );
  const { vmid } = spec.given;
  const holder = guests.find((guest) => guest.vmid === vmid);
  if (holder !== undefined)
    throw new Failure("vmid-taken", `VMID ${vmid} is taken by "${holder.name}"`, {
      advice: "choose another one, or leave --vmid out: the next free one is taken",
    });
}

async function chooseNode(host: PveHost, wanted: string | undefined): Promise<string> {
  const nodes = await host.nodes();
  const online = nodes.filter((node) => node.online).map(({ name }) => name);
  const chosen = wanted ?? online[0];
  if (chosen === undefined || !nodes.some(({ name }) => name === chosen))
    throw new Failure(
      "pve-node-unknown",
      `there is no PVE node "${wanted ?? ""}"; there is: ${list(nodes.map(({ name }) => name))}`,
      {
        advice: `exitnode create --pve-node ${online[0] ?? "NODE"}`,
      },
    );
  if (!online.includes(chosen))
    throw new Failure("pve-node-unreachable", `the PVE node "${chosen}" is offline`, {
      advice: `choose one that is not: ${list(online)}`,
    });
  return chosen;
}

function checkStorage(
  storages: readonly Storage[],
  id: string | undefined,
  content: "rootdir" | "vztmpl",
  bytes: number,
  at: { readonly node: string; readonly host: string },
): string {
  const purpose = content === "rootdir" ? "containers" : "templates";
  const fit = storages.filter((storage) => storage.active && storage.content.includes(content)).map((one) => one.id);
  const flag = content === "rootdir" ? "--storage" : "--template-storage";
  const advice =
    fit[0] === undefined
      ? `on the Proxmox host: pvesm set STORAGE --content …,${content}`
      : `exitnode create --host ${at.host} ${flag} ${fit[0]}`;
  const storage = storages.find((one) => one.id === id);
  if (storage === undefined)
    throw new Failure(
      "storage-unknown",
      `there is no storage ${id === undefined ? `for ${purpose}` : `"${id}"`} on ${at.node}; for ${purpose} there is: ${list(fit)}`,
      { advice },
    );
  if (!storage.content.includes(content))
    throw new Failure(
      "storage-content-refused",
      `storage "${storage.id}" does not hold ${purpose}; these do: ${list(fit)}`,
      { advice },
    );
  if (!storage.active)
    throw new Failure("storage-inactive", `storage "${storage.id}" is not active on ${at.node}`, { advice });
  if (storage.availBytes < bytes)
    throw new Failure(
      "storage-full",
      `storage "${storage.id}" has ${gib(storage.availBytes)} GiB free, ${gib(bytes)} GiB are needed`,
      {
        advice: "free some space there, or choose another storage or a smaller disk: --storage, --disk",
      },
    );
  return storage.id;
}

type ChosenTemplate = Placement["template"] | { readonly kind: "missing"; readonly failure: Failure };

function chooseTemplate(
  wanted: string | undefined,
  storage: string,
  there: readonly Volume[],
  appliance: Appliance | undefined,
): ChosenTemplate {
  const missing = (message: string): ChosenTemplate => ({
    kind: "missing",
    failure: new Failure("template-missing", message, { advice: "exitnode appliance build" }),
  });
  if (wanted !== undefined) {
    const volid = wanted.includes(":") ? wanted : `${storage}:vztmpl/${wanted}`;
    if (there.some((volume) => volume.volid === volid)) return { kind: "on-host", volid };
    if (appliance?.name === wanted) return { kind: "upload", name: appliance.name };
    return missing(`there is no template ${volid} on the host; there is: ${list(there.map((volume) => volume.volid))}`);
  }
  if (appliance !== undefined) {
    const volid = `${storage}:vztmpl/${appliance.name}`;
    // Another size under our name is an upload that was cut off, or another build: it is replaced.
    const same = there.some((volume) => volume.volid === volid && volume.sizeBytes === appliance.sizeBytes);
    return same ? { kind: "on-host", volid } : { kind: "upload", name: appliance.name };
  }
  const newest = newestTemplate(there);
  if (newest !== undefined) return { kind: "on-host", volid: newest.volid };
  return missing(`neither the host (storage "${storage}") nor this machine has the exit node's template`);
}

const gib = (bytes: number): string => (bytes / 1024 ** 3).toFixed(1);
const list = (names: readonly string[]): string => names.join(", ") || "none that this login may see";
