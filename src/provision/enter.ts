import { Failure } from "../kit/failure.js";
import type { Ssh } from "../sys/ssh.js";
import { Journal } from "./journal.js";
import type { HostRequest, ProvisionParts } from "./parts.js";
import { connection, disconnect, findHostKey, lookAtHost, type Session } from "./session.js";
import { parseName } from "./spec.js";
import { addressOf } from "./view.js";

/** Works inside an exit node's container that runs, as root over SSH with the key that was pinned when it was made. */
export async function enterExitNode<T>(
  parts: ProvisionParts,
  request: HostRequest,
  name: string,
  work: (ssh: Ssh) => Promise<T>,
): Promise<T> {
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
  try {
    return await work(await connection(session, known));
  } finally {
    disconnect(session);
  }
}
