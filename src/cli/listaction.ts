import { asFailure } from "../kit/failure.js";
import { addressesOf, ownContainers } from "../provision/observe.js";
import type { Call, Outcome } from "./command.js";
import { readConfig } from "./config.js";
import { openHost } from "./hosts.js";
import { renderTable } from "./table.js";

type Listed = {
  readonly host: string;
  readonly id: string;
  readonly name: string;
  readonly vmid: number;
  readonly pveNode: string;
  readonly state: "running" | "stopped";
  readonly address?: string;
  readonly coordinator: boolean;
};
type Unreached = { readonly host: string; readonly error: { readonly code: string; readonly message: string } };

/** Every host is asked at once; one that does not answer is a line of its own and hides no other. */
export async function listExitNodes(call: Call): Promise<Outcome> {
  const { files, paths } = call.parts;
  const hosts = Object.keys((await readConfig(files, paths.config)).hosts);
  const answers = await Promise.all(hosts.map((host) => listHost(call, host)));
  const exitNodes = mergeEntries(answers.flatMap(({ listed }) => listed));
  const unreached = answers.flatMap((answer) => (answer.unreached === undefined ? [] : [answer.unreached]));
  const rows = exitNodes.map((one) => [
    one.name,
    one.host,
    String(one.vmid),
    one.pveNode,
    one.state,
    one.address ?? "-",
    one.coordinator ? "with the coordinator" : "",
  ]);
  const text = [
    rows.length === 0
      ? "no exit nodes: exitnode create"
      : renderTable([["NAME", "HOST", "VMID", "PVE NODE", "STATE", "ADDRESS", ""], ...rows]),
    ...unreached.map(({ host, error }) => `${host} does not answer: ${error.message}`),
  ].join("\n");
  return { value: { exitNodes, unreached }, text };
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

async function listHost(call: Call, host: string): Promise<{ listed: Listed[]; unreached?: Unreached }> {
  try {
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
      return { listed: await Promise.all(listed) };
    } finally {
      pve.close();
    }
  } catch (error) {
    const { code, message } = asFailure(error);
    return { listed: [], unreached: { host, error: { code, message } } };
  }
}
