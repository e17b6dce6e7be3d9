import { join } from "node:path";
import { asFailure, Failure } from "../kit/failure.js";
import { examineHost, unseen } from "../provision/doctor/host.js";
import type { HostLook } from "../provision/doctor/look.js";
import type { Finding } from "../provision/preflight/finding.js";
import { reaching } from "../provision/reach.js";
import { openSsh, type SshTarget } from "../sys/ssh.js";
import { ensureSshKey, KEY_FILE, type SshKeyPair } from "../sys/sshkey.js";
import type { Call } from "./command.js";
import { openedHost, readAppliance } from "./createparts.js";
import { notEvenIn } from "./hostcheck.js";
import type { OpenedHost } from "./hosts.js";
import { knownMachine } from "./machinelogin.js";

/** One Proxmox host and the exit nodes on it. */
export async function lookAtHost(call: Call, host: string): Promise<Finding[]> {
  const { clock } = call.parts;
  const { opened, request } = await openedHost({ ...call, options: { ...call.options, host } });
  const { name, pve } = opened;
  try {
    const through = await jumpOf(call, opened);
    const jump = "target" in through ? through.target : undefined;
    const look: HostLook = {
      host: pve,
      clock,
      signal: call.signal,
      openSsh: reaching(openSsh, jump, name),
      ...(jump === undefined ? {} : { hostShell: (signal) => openSsh(jump, signal) }),
      sshKey: await keptSshKey(call),
      appliance: () => readAppliance(call.parts),
    };
    const findings = await examineHost(look, request);
    return "failure" in through ? [...findings, unseen("SSH jump", through.failure)] : findings;
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    return [notEvenIn(asFailure(error), opened)];
  } finally {
    pve.close();
  }
}

/** Only read: whoever has no key yet has no exit node either. */
async function keptSshKey({ parts: { files, paths } }: Call): Promise<SshKeyPair | undefined> {
  const kept = await files.readText(join(paths.config, KEY_FILE));
  return kept === undefined ? undefined : ensureSshKey(files, paths.config);
}

type Through = { readonly target: SshTarget | undefined } | { readonly failure: Failure };

/** The way through the host's own sshd; one that nobody confirmed is a finding, and not taken. */
async function jumpOf(call: Call, { name, entry }: OpenedHost): Promise<Through> {
  try {
    return { target: entry.ssh === undefined ? undefined : await knownMachine(call, entry.ssh.jump, name) };
  } catch (error) {
    return { failure: asFailure(error) };
  }
}
