import { Failure } from "../kit/failure.js";
import type { Guest, PveHost } from "../pve/guests.js";
import type { Appliance, HostRequest } from "./parts.js";
import { observeHost, type Wish } from "./preflight/facts.js";
import { refusal } from "./preflight/finding.js";
import { judgeHost } from "./preflight/judge.js";
import type { ExitNodeSpec } from "./spec.js";
import type { Placement } from "./view.js";

/** Everything that can be refused before anything is made is refused here, at once: nothing is left on the host. */
export async function place(
  host: PveHost,
  request: HostRequest,
  spec: ExitNodeSpec,
  guests: readonly Guest[],
  findAppliance: () => Promise<Appliance | undefined>,
  shell = false,
): Promise<Placement> {
  refuseTaken(spec, guests);
  const { hostName, login, pveNode } = request;
  const wish: Wish = { hostName, login, pveNode, shell, options: { ...request.defaults, ...spec.given } };
  const facts = await observeHost(host, wish, guests, findAppliance);
  const findings = judgeHost(wish, facts);
  const refused = refusal(findings);
  if (refused !== undefined) throw refused;
  const { inside } = facts;
  if (inside?.places.storage === undefined || inside.template.kind === "missing")
    throw new Error("a report that stops nothing has a place");
  const { node, places, source, template } = inside;
  return {
    node,
    storage: inside.places.storage,
    templateStorage: places.templateStorage,
    bridge: places.bridge,
    template: source?.hostKey === undefined ? template : { kind: "clone", vmid: source.vmid, hostKey: source.hostKey },
    warnings: findings.filter(({ severity }) => severity === "warns"),
  };
}

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
