import type { Failure } from "../kit/failure.js";
import { addressesOf, ownContainers } from "../provision/observe.js";
import type { Call, Outcome } from "./command.js";
import { askHosts, failuresOf, givenOrAllHosts, noExitNodes, valuesOf } from "./everyhost.js";
import { openHost } from "./hosts.js";
import { renderTable } from "./table.js";

export type Listed = {
  readonly host: string;
  readonly id: string;
  readonly name: string;
  readonly vmid: number;
  readonly pveNode: string;
  readonly state: "running" | "stopped";
  readonly address?: string;
  readonly coordinator: boolean;
};
export type Unreached = { readonly host: string; readonly error: Failure };
export type Listing = { readonly exitNodes: readonly Listed[]; readonly unreached: readonly Unreached[] };

/** The exit nodes of the given hosts, or of all; exit code 1 when one of them could not be asked. */
export async function listExitNodes(call: Call): Promise<Outcome> {
  const listing = await listHosts(call, await givenOrAllHosts(call));
  const { exitNodes, unreached } = listing;
  const rows = [
    ...exitNodes.map((one) => [
      one.name,
      one.host,
      String(one.vmid),
      one.pveNode,
      one.state,
      one.address ?? "-",
      one.coordinator ? "with the coordinator" : "",
    ]),
    ...unreached.map(({ host, error }) => ["-", host, "-", "-", "not asked", "-", error.message]),
  ];
  return {
    value: listing,
    text:
      rows.length === 0
        ? await noExitNodes(call)
        : renderTable([["NAME", "HOST", "VMID", "PVE NODE", "STATE", "ADDRESS", ""], ...rows]),
    ...(unreached.length > 0 ? { exitCode: 1 } : {}),
  };
}

/** Every host is asked at once; one that does not answer hides no other. */
export async function listHosts(call: Call, hosts: readonly string[]): Promise<Listing> {
  const answers = await askHosts(call, hosts, listHost);
  return { exitNodes: mergeEntries(valuesOf(answers).flatMap(({ value }) => value)), unreached: failuresOf(answers) };
}

/** One Proxmox host may be in the config twice, with two logins: its exit nodes are shown once. */
function mergeEntries(listed: readonly Listed[]): Listed[] {
  const merged = new Map<string, Listed>();
  for (const one of listed) {
    const known = merged.get(one.id);
    merged.set(one.id, known === undefined ? one : { ...known, host: `${known.host}, ${one.host}` });
  }
  return [...merged.values()];
}

async function listHost(call: Call, host: string): Promise<Listed[]> {
  const { pve } = await openHost(call.parts, host, { signal: call.signal });
  try {
    const containers = await ownContainers(pve);
    const listed = containers.map(async (container): Promise<Listed> => {
      const { vmid, node, running, identity } = container;
      const address = running ? (await addressesOf(pve, container)).find((ip) => !ip.startsWith("fe80:")) : undefined;
      return {
        host,
        id: identity.id,
        name: identity.name,
        vmid,
        pveNode: node,
        state: running ? "running" : "stopped",
        ...(address === undefined ? {} : { address }),
        coordinator: identity.coordinator === true,
      };
    });
    return await Promise.all(listed);
  } finally {
    pve.close();
  }
}
