import { cpus, freemem, loadavg, release, totalmem, uptime } from "node:os";
import { membersOf } from "../cluster.js";
import { isRecordArray } from "../json.js";
import { mustRunProgram } from "../program.js";
import { type Handlers, type Pve, text } from "../pve.js";
import { PACKAGES, VERSIONS } from "../release.js";
import { LOCAL } from "../storage.js";

export const nodeMethods: Handlers = {
  "GET /nodes": ({ pve }) =>
    membersOf(pve).map(({ nodeName, fingerprint }) => ({
      id: `node/${nodeName}`,
      node: nodeName,
      type: "node",
      status: "online",
      level: "",
      ssl_fingerprint: fingerprint,
    })),

  "GET /nodes/{node}": () =>
    ["lxc", "storage", "network", "tasks", "status", "apt", "version"].map((name) => ({ name })),

  "GET /nodes/{node}/version": ({ pve }) => VERSIONS[pve.release],

  "GET /nodes/{node}/status": ({ pve }) => nodeStatus(pve),

  "GET /nodes/{node}/network": async ({ pve, params }) => networks(pve, text(params, "type")),

  "GET /nodes/{node}/apt/versions": ({ pve }) =>
    PACKAGES[pve.release].map(([Package, Version]) => packageVersion(Package, Version)),
};

function packageVersion(name: string, version: string): Record<string, string> {
  return {
    Package: name,
    Version: version,
    OldVersion: version,
    CurrentState: "Installed",
    Arch: "amd64",
    Origin: "Proxmox",
    Priority: "optional",
    Section: "admin",
    Title: name,
    Description: name,
  };
}

function nodeStatus(pve: Pve): Record<string, unknown> {
  const { version, repoid } = VERSIONS[pve.release];
  const total = totalmem();
  const free = freemem();
  const space = pve.storages.get(LOCAL).space();
  const processors = cpus();
  return {
    pveversion: `pve-manager/${version}/${repoid}`,
    kversion: `Linux ${release()}`,
    "current-kernel": { sysname: "Linux", release: release(), version: "", machine: "x86_64" },
    "boot-info": { mode: "legacy-bios" },
    uptime: Math.floor(uptime()),
    loadavg: loadavg().map((value) => value.toFixed(2)),
    cpu: Math.min(1, (loadavg()[0] ?? 0) / processors.length),
    wait: 0,
    idle: 0,
    cpuinfo: {
      model: processors[0]?.model ?? "unknown",
      mhz: String(processors[0]?.speed ?? 0),
      cpus: processors.length,
      cores: processors.length,
      sockets: 1,
      hvm: "0",
      user_hz: 100,
      flags: "",
    },
    memory: { total, free, available: free, used: total - free },
    swap: { total: 0, free: 0, used: 0 },
    rootfs: { total: space.total, used: space.used, avail: space.avail, free: space.total - space.used },
    ksm: { shared: 0 },
  };
}

/** The bridges and cards of the node's network namespace. */
async function networks({ enter }: Pve, type: string | undefined): Promise<unknown[]> {
  const { stdout } = await mustRunProgram([...enter, "/sbin/ip", "--json", "--details", "address"]);
  const links: unknown = JSON.parse(stdout);
  if (!isRecordArray(links)) return [];
  const shown = links.filter((link) => !/^(?:lo$|veth|tap|fwbr|fwpr|fwln)/.test(String(link.ifname)));
  const rows = shown.map(describe);
  if (type === undefined) return rows;
  const wanted = type === "any_bridge" || type === "any_local_bridge" ? "bridge" : type;
  return rows.filter((row) => row.type === wanted);
}

function describe(link: Record<string, unknown>): Record<string, unknown> {
  const info = link.linkinfo;
  const bridge = typeof info === "object" && info !== null && "info_kind" in info && info.info_kind === "bridge";
  const addresses = isRecordArray(link.addr_info) ? link.addr_info : [];
  const four = addresses.find((address) => address.family === "inet");
  const static4 =
    four === undefined
      ? { method: "manual" }
      : {
          method: "static",
          address: four.local,
          netmask: String(four.prefixlen),
          cidr: `${four.local}/${four.prefixlen}`,
        };
  return {
    iface: link.ifname,
    type: bridge ? "bridge" : "eth",
    active: 1,
    ...(bridge ? { autostart: 1, bridge_ports: "", bridge_stp: "off", bridge_fd: "0" } : { exists: 1 }),
    families: ["inet"],
    method6: "manual",
    priority: 3,
    ...static4,
  };
}
