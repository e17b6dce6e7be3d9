import { create, plan } from "./converge.js";
import type { HostRequest, ProvisionParts } from "./parts.js";
import { wantedFiles } from "./payload.js";
import type { Done } from "./run.js";
import { unknownExitNode } from "./upgrade.js";
import { fileInputsOf, type View } from "./view.js";

/** An exit node after something changed under it, such as the host's kernel in a Proxmox upgrade. */
export type Repaired = {
  readonly done: Done;
  /** How WireGuard is done: by the host's kernel, or by the agent. */
  readonly dataPlane: { readonly was: string | undefined; readonly is: string | undefined };
  /** Of the PVE node, where the login may read it. */
  readonly kernel: string | undefined;
  /** What was not as wanted, in words. */
  readonly found: readonly string[];
};

/** Asks anew what the host offers, and puts right what does not fit: the ordinary plan, and what was different before. */
export async function repair(parts: ProvisionParts, request: HostRequest, name: string): Promise<Repaired> {
  const wanted = { name, given: {} };
  const { view, differences } = await plan(parts, request, wanted);
  const { container } = view;
  if (container === undefined) throw unknownExitNode(name, request.hostName);
  const was = await configuredDataPlane(parts, view);
  const done = await create(parts, request, wanted);
  const kernel = await parts.host.nodeStatus(container.node).then(
    (status) => status.kernel,
    () => undefined,
  );
  const found = [...(container.running ? [] : ["the container does not run"]), ...differences];
  return { done, dataPlane: { was, is: await configuredDataPlane(parts, done.view) }, kernel, found };
}

/** As the agent's configuration in the container has it, which is there when the agent is not. */
async function configuredDataPlane(parts: ProvisionParts, view: View): Promise<string | undefined> {
  const { inside } = view;
  const inputs = fileInputsOf(view);
  if (inside === undefined || inputs === undefined) return undefined;
  const payload = await parts.payload();
  const is = inside.files.get(AGENT_CONFIG)?.sha256;
  const kind = (["kernel", "userspace"] as const).find((dataPlane) =>
    wantedFiles(payload, { ...inputs, dataPlane }, parts.sha256).some(
      ({ path, sha256 }) => path === AGENT_CONFIG && sha256 === is,
    ),
  );
  return kind ?? inside.agent?.dataPlane;
}

const AGENT_CONFIG = "/etc/exitnode/agent.yaml";
