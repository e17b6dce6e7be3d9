import type { Storage } from "../../pve/guests.js";
import { missing } from "../../pve/permissions.js";
import { DEFAULTS } from "../spec.js";
import { clockFinding } from "./clock.js";
import { dataPlaneFinding } from "./dataplane.js";
import { diskBytesOf, type HostFacts, type NodeFacts, type Wish } from "./facts.js";
import { type Finding, fine, listOf, stops } from "./finding.js";
import { bridgeFinding, dhcpFinding } from "./network.js";
import { rightsFindings } from "./rights.js";
import { sourceFinding } from "./source.js";
import { type Content, snapshotFinding, storageFinding, uploadFinding } from "./storage.js";
import { templateFinding } from "./template.js";
import { containerPackageFinding, versionFinding } from "./versions.js";

/** One report of a host: everything that a new exit node there needs, in the order a person would look. */
export function judgeHost(wish: Wish, facts: HostFacts): Finding[] {
  const { inside } = facts;
  const host = [versionFinding(facts.version), nodeFinding(facts)];
  return inside === undefined ? host : [...host, ...judgeNode(wish, inside)];
}

function judgeNode(wish: Wish, facts: NodeFacts): Finding[] {
  const { hostName, login, options } = wish;
  const { node, storages, bridges, places, source } = facts;
  const storage = (id: string | undefined, content: Content, bytes: number): Finding[] =>
    isHidden(facts, id, storages) ? [] : [storageFinding(storages, { id, content, bytes, node, hostName })];
  const uploadBytes = facts.template.kind === "upload" ? (facts.appliance?.sizeBytes ?? 0) : 0;
  return [
    ...containerPackageFinding(facts.pveContainer),
    ...rightsFindings(login, facts.held, facts.needs),
    ...poolFinding(facts, options.pool),
    ...storage(places.storage, "rootdir", diskBytesOf(options)),
    ...snapshotFinding(storages, places.storage),
    ...(source === undefined
      ? [
          ...storage(places.templateStorage, "vztmpl", uploadBytes),
          ...uploadFinding(facts.rootFreeBytes, uploadBytes),
          templateFinding(facts.template),
        ]
      : [sourceFinding(source, options, node, hostName)]),
    bridgeFinding(bridges, places.bridge, { node, hostName }),
    dhcpFinding(
      {
        ip: options.ip ?? DEFAULTS.ip,
        bridge: bridges.find(({ name }) => name === places.bridge),
        vlan: options.vlan,
      },
      facts.dhcp,
    ),
    dataPlaneFinding({
      wanted: options.dataPlane ?? "auto",
      kernel: facts.kernel,
      ways: { login: login === "root@pam", shell: wish.shell, source: source?.vmid },
      hostName,
    }),
    ...clockFinding(facts.skewMs),
  ];
}

/** Whoever may not see a storage is told so among the permissions, and not that it does not exist. */
function isHidden({ held, needs }: NodeFacts, id: string | undefined, storages: readonly Storage[]): boolean {
  if (storages.some((one) => one.id === id)) return false;
  return missing(held, needs.create).some(({ path }) => path === `/storage/${id ?? "local"}`);
}

function nodeFinding({ node, nodes }: HostFacts): Finding {
  const found = nodes.find(({ name }) => name === node);
  const online = nodes.filter((one) => one.online).map(({ name }) => name);
  if (found?.online) return fine("PVE node", `${found.name} is online`);
  if (found === undefined)
    return stops(
      "PVE node",
      "pve-node-unknown",
      `there is no PVE node "${node ?? ""}"; there is: ${listOf(nodes.map(({ name }) => name))}`,
      { advice: `exitnode create --pve-node ${online[0] ?? "NODE"}` },
    );
  return stops("PVE node", "pve-node-unreachable", `the PVE node "${found.name}" is offline`, {
    advice: `choose one that is not: ${listOf(online)}`,
  });
}

function poolFinding({ pools, held, needs }: NodeFacts, pool: string | undefined): Finding[] {
  // Whoever may not see pools is told so among the permissions.
  if (pool === undefined || missing(held, needs.create).some(({ anyOf }) => anyOf[0] === "Pool.Audit")) return [];
  if (pools.includes(pool)) return [fine("pool", pool)];
  const what = `there is no pool "${pool}" on the host; there is: ${listOf(pools)}`;
  return [stops("pool", "pool-unknown", what, { advice: `on the Proxmox host: pveum pool add ${pool}` })];
}
