import { defaultBridge, defaultStorage, diskBytesOf, newestTemplate } from "../provision/preflight.js";
import type { Bridge, Permissions, Storage, Volume } from "../pve/guests.js";
import { missing, type Need, pveumLines } from "../pve/permissions.js";
import type { HostEntry } from "./config.js";

/** What was seen of a host, judged: one line per thing an exit node needs. */
export type Check = {
  readonly name: string;
  readonly state: "ok" | "warning" | "blocked";
  readonly detail: string;
  /** What to type, where something is missing. */
  readonly fix?: string;
};

export type HostFacts = {
  readonly version: string;
  readonly nodes: readonly { readonly name: string; readonly online: boolean }[];
  readonly node: string;
  /** Undefined when the PVE node is not there. */
  readonly inside:
    | {
        readonly storages: readonly Storage[];
        readonly bridges: readonly Bridge[];
        readonly places: Places;
        readonly needs: {
          readonly create: readonly Need[];
          readonly upgrade: readonly Need[];
          readonly diagnosis: readonly Need[];
        };
        readonly held: Permissions;
        readonly templates: readonly Volume[];
        readonly kernel: string | undefined;
      }
    | undefined;
};

export type Places = { readonly storage: string; readonly templateStorage: string; readonly bridge: string };

/** Proxmox VE 8.4 is the first with every address of a container in its interface list. */
const VERSION_MIN = [8, 4] as const;
/** Where `create` would put a container. */
export function placesOf(
  defaults: HostEntry["defaults"],
  storages: readonly Storage[],
  bridges: readonly Bridge[],
): Places {
  return {
    // "local" is what an installation has; with no storage in sight it stands in the lines that grant access.
    storage: defaults.storage ?? defaultStorage(storages, "rootdir", diskBytesOf(defaults)) ?? "local",
    templateStorage: defaults.templateStorage ?? defaultStorage(storages, "vztmpl", 0) ?? "local",
    bridge: defaults.bridge ?? defaultBridge(bridges),
  };
}

export function judgeHost(entry: HostEntry, facts: HostFacts): Check[] {
  const checks: Check[] = [
    { name: "connection", state: "ok", detail: `${entry.url}, certificate as pinned` },
    { name: "login", state: "ok", detail: entry.login },
    versionCheck(facts.version),
    nodeCheck(facts),
  ];
  const { inside } = facts;
  if (inside === undefined) return checks;
  const { storages, bridges, places, templates } = inside;
  return [
    ...checks,
    ...permissionChecks(entry.login, inside),
    storageCheck("container storage", places.storage, "rootdir", storages, diskBytesOf(entry.defaults)),
    storageCheck("template storage", places.templateStorage, "vztmpl", storages, 0),
    bridgeCheck(places.bridge, bridges),
    templateCheck(places.templateStorage, templates),
    dataPlaneCheck(entry.login, inside.kernel),
  ];
}

function versionCheck(version: string): Check {
  const [major = 0, minor = 0] = version.split(".").map(Number);
  const enough = major > VERSION_MIN[0] || (major === VERSION_MIN[0] && minor >= VERSION_MIN[1]);
  if (enough) return { name: "version", state: "ok", detail: `Proxmox VE ${version}` };
  const detail = `Proxmox VE ${version}, expected ${VERSION_MIN.join(".")} or newer`;
  return { name: "version", state: "blocked", detail, fix: "on the Proxmox host: apt update && apt full-upgrade" };
}

function nodeCheck({ node, nodes }: HostFacts): Check {
  const found = nodes.find(({ name }) => name === node);
  if (found?.online) return { name: "PVE node", state: "ok", detail: `${node} is online` };
  const names = nodes.map(({ name }) => name).join(", ");
  const detail = found === undefined ? `there is no "${node}", expected one of ${names}` : `${node} is offline`;
  return { name: "PVE node", state: "blocked", detail };
}

function permissionChecks(login: string, { needs, held }: NonNullable<HostFacts["inside"]>): Check[] {
  const told = (name: string, lacking: readonly Need[], state: "warning" | "blocked", fine: string): Check => {
    if (lacking.length === 0) return { name, state: "ok", detail: fine };
    const detail = `missing ${byPath(lacking)}`;
    return { name, state, detail, fix: ["on the Proxmox host, as root:", ...pveumLines(login, lacking)].join("\n") };
  };
  const diagnosis = missing(held, needs.diagnosis);
  return [
    told("permissions", missing(held, needs.create), "blocked", "all that a create needs"),
    told("for upgrades", missing(held, needs.upgrade), "warning", "snapshots and backups"),
    ...(diagnosis.length === 0 ? [] : [told("for diagnosis", diagnosis, "warning", "")]),
  ];
}

/** "VM.Audit, VM.Backup on /vms; SDN.Use on /sdn/…" */
function byPath(needs: readonly Need[]): string {
  const paths = new Map<string, string[]>();
  for (const { path, anyOf } of needs) paths.set(path, [...(paths.get(path) ?? []), anyOf[0] ?? ""]);
  return [...paths].map(([path, privs]) => `${privs.join(", ")} on ${path}`).join("; ");
}

function storageCheck(name: string, id: string, content: string, storages: readonly Storage[], room: number): Check {
  const storage = storages.find((one) => one.id === id);
  const able = storages.filter((one) => one.content.includes(content)).map((one) => one.id);
  if (storage === undefined) {
    const others = able.length === 0 ? "" : `; for ${content} there are ${able.join(", ")}`;
    return { name, state: "blocked", detail: `${id} is not there, or the login may not see it${others}` };
  }
  const fix = `on the Proxmox host: pvesm set ${id} --content ${[...storage.content, content].join(",")}`;
  if (!storage.content.includes(content))
    return {
      name,
      state: "blocked",
      detail: `${id} does not take ${content}, only ${storage.content.join(", ")}`,
      fix,
    };
  if (!storage.active) return { name, state: "blocked", detail: `${id} is not active` };
  const gib = (storage.availBytes / 1024 ** 3).toFixed(1);
  const detail = `${id} (${storage.type}), ${gib} GiB free`;
  return { name, state: storage.availBytes < room ? "warning" : "ok", detail };
}

function bridgeCheck(name: string, bridges: readonly Bridge[]): Check {
  const bridge = bridges.find((one) => one.name === name);
  if (bridge?.active)
    return { name: "bridge", state: "ok", detail: `${name}${bridge.cidr ? ` (${bridge.cidr})` : ""}` };
  const names = bridges.map((one) => one.name).join(", ") || "none";
  const detail = bridge === undefined ? `there is no ${name}; the PVE node has ${names}` : `${name} is not up`;
  return { name: "bridge", state: "blocked", detail };
}

function templateCheck(storage: string, templates: readonly Volume[]): Check {
  const newest = newestTemplate(templates);
  if (newest !== undefined) return { name: "template", state: "ok", detail: newest.volid };
  const detail = `none on ${storage} yet; create uploads it`;
  return { name: "template", state: "warning", detail, fix: "exitnode appliance upload" };
}

function dataPlaneCheck(login: string, kernel: string | undefined): Check {
  const host = kernel === undefined ? "" : ` (kernel ${kernel})`;
  const root = login === "root@pam";
  const detail = root
    ? `kernel WireGuard, or userspace through /dev/net/tun${host}`
    : `kernel WireGuard${host}; handing /dev/net/tun to a container takes root@pam's password`;
  return { name: "data plane", state: "ok", detail };
}
