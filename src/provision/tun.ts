import { Failure } from "../kit/failure.js";
import type { Millis } from "../kit/time.js";
import { TUN } from "./containerparams.js";
import { patiently } from "./patience.js";
import type { Session } from "./session.js";
import type { OwnContainer } from "./view.js";

const PCT_TIMEOUT_MS: Millis = 30_000;

/** Writes the device into the container's configuration: root@pam over the API, anybody else as root on the host. */
export async function passTun({ parts, request }: Session, { node, vmid }: OwnContainer): Promise<void> {
  const { host, hostShell, signal } = parts;
  if (request.login === "root@pam" || hostShell === undefined) {
    await patiently(parts, () => host.setConfig(node, vmid, TUN));
    return;
  }
  const ssh = await hostShell(signal);
  try {
    const ran = await ssh.run(["pct", "set", String(vmid), "--dev0", String(TUN.dev0)], {
      timeoutMs: PCT_TIMEOUT_MS,
      signal,
    });
    if (ran.exitCode === 0) return;
    throw new Failure("tun-refused", `pct set ${vmid} exited ${ran.exitCode}: ${ran.stderr.trim().slice(-300)}`, {
      advice: `the SSH jump must lead to the PVE node ${node}, as root: exitnode host add ${request.hostName} --ssh-jump root@${node}`,
    });
  } finally {
    ssh.close();
  }
}
