import { Failure } from "../kit/failure.js";
import { exitNodeFacts } from "../provision/outcome.js";
import { type Repaired, repair } from "../provision/repair.js";
import { tryLock } from "../sys/lock.js";
import type { Call, Outcome } from "./command.js";
import { openedHost, provisionParts } from "./createparts.js";
import { stepProgress } from "./createprogress.js";
import { onItsHost } from "./itshost.js";

/** `repair`: what the host offers now, what was not as wanted, and what was done about it. */
export async function repairExitNode(call: Call): Promise<Outcome> {
  const [name = ""] = call.args;
  const { opened, request } = await openedHost(await onItsHost(call, name));
  const unlock = await tryLock(`exitnode-create-${call.parts.paths.state}-${request.hostName}-${name}`);
  if (unlock === undefined)
    throw new Failure("already-running", `"${name}" on ${request.hostName} is being worked on by another run here`, {
      advice: "wait for it to end",
    });
  try {
    const repaired = await repair(await provisionParts(call, opened, await stepProgress(call.parts)), request, name);
    const { dataPlane, kernel, found, done } = repaired;
    const exitNode = exitNodeFacts(done.view);
    const value = {
      host: request.hostName,
      exitNode,
      dataPlane,
      kernel,
      found,
      changed: done.changed,
      steps: done.steps,
    };
    return { value, text: describe(name, repaired) };
  } finally {
    opened.pve.close();
    await unlock();
  }
}

function describe(name: string, { dataPlane: { was, is }, kernel, found, done }: Repaired): string {
  const under = kernel === undefined ? "" : `, on kernel ${kernel}`;
  const plane =
    was === is
      ? `the data plane is ${is ?? "unknown"}, as before${under}`
      : `the data plane is ${is ?? "unknown"} now, it was ${was ?? "none"}${under}`;
  if (!done.changed) return `nothing to do: "${name}" is as wanted; ${plane}`;
  return [`"${name}" works; ${plane}`, ...found.map((words) => `  put right: ${words}`)].join("\n");
}
