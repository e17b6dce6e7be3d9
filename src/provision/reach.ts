import { Failure } from "../kit/failure.js";
import type { Millis } from "../kit/time.js";
import type { Ssh, SshTarget } from "../sys/ssh.js";
import type { ProvisionParts } from "./parts.js";

type OpenSsh = ProvisionParts["openSsh"];

/** With another way at hand, a container that does not answer by then is tried that way. */
export const DIRECT_TIMEOUT_MS: Millis = 3_000;

/**
 * How a container is reached: directly where that works, else through the host's jump host. At the address of a
 * container at home there may be somebody else where this machine is now, so another host key and a refused login
 * count as "not here" too; both ways judge the same pinned key.
 */
export function reaching(openSsh: OpenSsh, jump: SshTarget | undefined, hostName: string): OpenSsh {
  const behind = new Set<string>();
  return async (target, signal) => {
    if (jump === undefined) return openSsh(target, signal).catch((error: unknown) => noWay(error, target, hostName));
    if (!behind.has(target.address)) {
      const direct = await openSsh({ ...target, readyTimeoutMs: DIRECT_TIMEOUT_MS }, signal).catch(notHere);
      if (direct !== undefined) return direct;
    }
    const ssh = await openSsh({ ...target, via: jump }, signal);
    behind.add(target.address);
    return ssh;
  };
}

const NOT_HERE = new Set(["ssh-unreachable", "ssh-refused", "ssh-key-refused", "host-key-mismatch"]);

function notHere(error: unknown): Ssh | undefined {
  if (error instanceof Failure && NOT_HERE.has(error.code)) return undefined;
  throw error;
}

function noWay(error: unknown, { address }: SshTarget, hostName: string): never {
  if (!(error instanceof Failure) || error.code !== "ssh-unreachable") throw error;
  throw new Failure(error.code, `${error.message}; the config names no way through the Proxmox host either`, {
    advice: [
      `run this where ${address} can be reached (ping ${address})`,
      `or go through the Proxmox host: exitnode host add ${hostName} --ssh-jump root@HOST`,
    ].join("\n"),
    cause: error,
  });
}
