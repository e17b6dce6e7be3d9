import { hostname } from "node:os";
import { Failure } from "../kit/failure.js";
import { defaultBridge } from "../provision/preflight/network.js";
import {
  ACCESS_USER,
  type AccessStep,
  accessLines,
  applyAccess,
  describeAccess,
  planAccess,
} from "../pve/bootstrap.js";
import type { PveHost } from "../pve/guests.js";
import type { Prompt } from "../sys/prompt.js";
import type { Call, Outcome } from "./command.js";

/** Where the containers of a token go when nobody says otherwise: it can touch no other. */
const POOL_DEFAULT = "exitnode";

export type Bootstrap = { readonly steps: readonly AccessStep[]; readonly pool: string | undefined };

/** What a root login is to make, once, so that it is not needed again. */
export async function planBootstrap(pve: PveHost, node: string, wanted: string | undefined): Promise<Bootstrap> {
  const storages = (await pve.storages(node)).filter(({ content }) => KEPT.some((kind) => content.includes(kind)));
  const seen = await pve.bridges(node);
  const bridges = seen.length > 0 ? seen : [{ name: defaultBridge([]) }];
  // A token that was made for all containers would lose sight of those it made.
  const forAll = (await pve.acls()).some(({ path, holder }) => path === "/vms" && holder === ACCESS_USER);
  const pool = wanted ?? (forAll ? undefined : POOL_DEFAULT);
  const token = tokenNameOf(hostname());
  const steps = await planAccess(pve, { nodes: [node], storages: storages.map(({ id }) => id), bridges, pool, token });
  return { steps, pool };
}

const TOKEN_NAME_MAX = 48;

/** A machine's own token: making it anew ends that of no other administrator. Proxmox takes letters, digits and `.-_`. */
export function tokenNameOf(machine: string): string {
  const clean = machine.replace(/[^A-Za-z0-9._-]+/g, "-");
  return `cli-${clean}`.slice(0, TOKEN_NAME_MAX).replace(/[^A-Za-z0-9]+$/, "");
}

/** Containers' disks, templates, and what an upgrade may go back to. */
const KEPT = ["rootdir", "vztmpl", "backup"];

/** For those who rather type it themselves; a token's secret is then shown by Proxmox, once. */
export function bootstrapLines(name: string, { steps }: Bootstrap): Outcome {
  const lines = steps.flatMap(accessLines);
  const value = { name, steps: steps.map(describeAccess), lines };
  return { value, text: ["on the Proxmox host, as root:", ...lines.map((line) => `  ${line}`)].join("\n") };
}

/** Shows what will be made, asks, makes it, and hands over the token. */
export async function applyBootstrap(
  { parts, options }: Call,
  prompt: Prompt | undefined,
  pve: PveHost,
  { steps }: Bootstrap,
): Promise<{ login: string; secret: string }> {
  for (const step of steps) parts.say(`to do: ${describeAccess(step)}`);
  if (options.yes !== true && options.agreed !== true) {
    if (prompt === undefined)
      throw new Failure("unconfirmed", "nobody is there to confirm this", {
        advice: "add --yes, or see the lines for the host's shell: --dry-run",
      });
    if (!(await prompt.confirm("Do this on the host?")))
      throw new Failure("cancelled", "cancelled; nothing was changed on the host, and nothing kept");
  }
  const { tokenId, secret } = await applyAccess(pve, steps);
  return { login: tokenId, secret };
}
