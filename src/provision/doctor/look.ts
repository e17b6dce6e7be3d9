import { Failure } from "../../kit/failure.js";
import { type Millis, SECOND } from "../../kit/time.js";
import type { PveHost } from "../../pve/guests.js";
import type { Ssh } from "../../sys/ssh.js";
import { type Inside, observationScript, parseObservation } from "../inside.js";
import { addressesOf } from "../observe.js";
import type { HostRequest, ProvisionParts } from "../parts.js";
import { DEFAULTS } from "../spec.js";
import { type OwnContainer, usableAddress } from "../view.js";
import { type Watch, within } from "./deadline.js";
import { type PveNodeFacts, parsePveNode, pveNodeScript } from "./pvenode.js";
import { parseSymptoms, type Symptoms, symptomScript } from "./symptoms.js";

/** Ways into an exit node's container and into its PVE node, each with its end. */
export type HostLook = Watch &
  Pick<ProvisionParts, "openSsh" | "hostShell" | "appliance"> & {
    readonly host: PveHost;
    /** Undefined where this administrator has none. */
    readonly sshKey: ProvisionParts["sshKey"] | undefined;
  };

/** A look starts Node in a small container. */
export const INSIDE_WITHIN_MS: Millis = 8 * SECOND;
export const SHELL_WITHIN_MS: Millis = 3 * SECOND;

/** Root's shell on the PVE node, where the host's entry names one. */
export type Door = {
  readonly ssh: Ssh | undefined;
  readonly facts: PveNodeFacts | undefined;
  readonly failure: Failure | undefined;
};

export async function openDoor(look: HostLook, own: readonly OwnContainer[]): Promise<Door> {
  const { hostShell } = look;
  if (hostShell === undefined) return { ssh: undefined, facts: undefined, failure: undefined };
  const opened = await within(look, SHELL_WITHIN_MS, "the SSH jump host", (signal) => hostShell(signal));
  if ("failure" in opened) return { ssh: undefined, facts: undefined, failure: opened.failure };
  const ssh = opened.value;
  const read = await within(look, SHELL_WITHIN_MS, "the PVE node's shell", (signal) =>
    ssh.run(["sh", "-s"], { input: pveNodeScript(own), signal, timeoutMs: SHELL_WITHIN_MS }),
  );
  return "failure" in read
    ? { ssh, facts: undefined, failure: read.failure }
    : { ssh, facts: parsePveNode(read.value.stdout), failure: undefined };
}

/** What was seen inside; `failure` is why SSH did not get in. */
export type Seen = {
  readonly symptoms: Symptoms | undefined;
  readonly inside: Inside | undefined;
  readonly failure: Failure | undefined;
};

/** Through SSH, and where nobody answers there through `pct exec`. */
export async function lookInside(
  look: HostLook,
  request: HostRequest,
  container: OwnContainer,
  door: Promise<Door>,
): Promise<Seen> {
  const looked = await within(look, INSIDE_WITHIN_MS, `"${container.identity.name}"`, (signal) =>
    overSsh(look, request, container, signal),
  );
  if ("value" in looked) return { ...looked.value, failure: undefined };
  const { ssh, facts } = await door;
  const closed: Seen = { symptoms: undefined, inside: undefined, failure: looked.failure };
  // Another PVE node's pct does not know it.
  if (ssh === undefined || facts?.name !== container.node) return closed;
  const argv = ["pct", "exec", String(container.vmid), "--", "sh", "-s"];
  const executed = await within(look, SHELL_WITHIN_MS, "pct exec", (signal) =>
    ssh.run(argv, { input: symptomScript(), signal, timeoutMs: SHELL_WITHIN_MS }),
  );
  if ("failure" in executed || executed.value.exitCode !== 0) return closed;
  return { ...closed, symptoms: parseSymptoms(executed.value.stdout) };
}

async function overSsh(
  { host, openSsh, sshKey }: HostLook,
  { hostName, defaults }: HostRequest,
  container: OwnContainer,
  signal: AbortSignal,
): Promise<{ symptoms: Symptoms; inside: Inside }> {
  const { hostKey, name } = container.identity;
  const address = usableAddress(await addressesOf(host, container));
  const impossible = (why: string): Failure =>
    new Failure("ssh-impossible", why, { advice: `exitnode create --host ${hostName} --name ${name}` });
  if (address === undefined) throw impossible("it has no address");
  if (hostKey === undefined) throw impossible("its SSH host key is not known");
  if (sshKey === undefined) throw impossible("this machine has no SSH key that it would let in");
  const target = { address, user: "root", privateKey: sshKey.privateKey, hostKey, readyTimeoutMs: SHELL_WITHIN_MS };
  const ssh = await openSsh(target, signal);
  try {
    const run = (input: string) => ssh.run(["sh", "-s"], { input, signal, timeoutMs: INSIDE_WITHIN_MS });
    const whoami = defaults.whoami ?? DEFAULTS.whoami;
    const [symptoms, observed] = await Promise.all([
      run(symptomScript()),
      run(observationScript({ paths: [], sysctlKeys: [], whoami })),
    ]);
    return { symptoms: parseSymptoms(symptoms.stdout), inside: parseObservation(observed.stdout) };
  } finally {
    ssh.close();
  }
}
