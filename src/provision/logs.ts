import { Failure } from "../kit/failure.js";
import { Journal } from "./journal.js";
import type { HostRequest, ProvisionParts } from "./parts.js";
import { connection, disconnect, findHostKey, lookAtHost, type Session } from "./session.js";
import { parseName } from "./spec.js";
import { addressOf } from "./view.js";

/** The last lines of the journal inside; of every unit when none is named. */
export async function readLogs(
  parts: ProvisionParts,
  request: HostRequest,
  name: string,
  want: { readonly units: readonly string[]; readonly lines: number },
): Promise<string> {
  const journal = await Journal.open(parts.files, parts.journalFolder, request.hostName, parseName(name));
  const session: Session = { parts, request, journal, name, given: {}, ssh: undefined };
  const view = await lookAtHost(session);
  const { container } = view;
  if (container === undefined)
    throw new Failure("exit-node-unknown", `there is no exit node "${name}" on ${request.hostName}`, {
      advice: "exitnode list",
    });
  if (!container.running || addressOf(view) === undefined)
    throw new Failure("container-stopped", `container ${container.vmid} of "${name}" does not run, or has no address`, {
      advice: `exitnode create --host ${request.hostName} --name ${name}`,
    });
  const known = { ...view, hostKey: view.hostKey ?? (await findHostKey(session, container)) };
  const ssh = await connection(session, known);
  try {
    const units = want.units.flatMap((unit) => ["-u", unit]);
    const argv = ["journalctl", ...units, "-n", String(want.lines), "-o", "short-iso", "--no-pager"];
    const ran = await ssh.run(argv, { signal: parts.signal });
    if (ran.exitCode !== 0)
      throw new Failure("logs-failed", `journalctl exited ${ran.exitCode}: ${ran.stderr.trim().slice(-300)}`, {
        advice: `exitnode doctor --host ${request.hostName}`,
      });
    return ran.stdout;
  } finally {
    disconnect(session);
  }
}
