import { Failure } from "../kit/failure.js";
import { enterExitNode } from "./enter.js";
import type { HostRequest, ProvisionParts } from "./parts.js";

/** The last lines of the journal inside; of every unit when none is named. */
export function readLogs(
  parts: ProvisionParts,
  request: HostRequest,
  name: string,
  want: { readonly units: readonly string[]; readonly lines: number },
): Promise<string> {
  return enterExitNode(parts, request, name, async (ssh) => {
    const units = want.units.flatMap((unit) => ["-u", unit]);
    const argv = ["journalctl", ...units, "-n", String(want.lines), "-o", "short-iso", "--no-pager"];
    const ran = await ssh.run(argv, { signal: parts.signal });
    if (ran.exitCode !== 0)
      throw new Failure("logs-failed", `journalctl exited ${ran.exitCode}: ${ran.stderr.trim().slice(-300)}`, {
        advice: `exitnode doctor --host ${request.hostName}`,
      });
    return ran.stdout;
  });
}
