import { Failure } from "../kit/failure.js";
import { adopt, findAdoptable } from "../provision/adopt.js";
import { exitNodeFacts } from "../provision/outcome.js";
import { VMID_MAX, VMID_MIN } from "../provision/spec.js";
import { terminalPrompt } from "../sys/prompt.js";
import type { Call, Outcome } from "./command.js";
import { openedHost, provisionParts } from "./createparts.js";
import { stepProgress } from "./createprogress.js";
import { onContainersHost } from "./itshost.js";

/** Says what will be another than before, asks, and adopts the container. */
export async function adoptContainer(call: Call): Promise<Outcome> {
  const [typed = ""] = call.args;
  const { name, hostKey, privileged, yes } = call.options;
  const vmid = Number(typed);
  if (!/^\d{3,9}$/.test(typed) || vmid < VMID_MIN || vmid > VMID_MAX)
    throw new Failure("usage", `expected the number of a container from ${VMID_MIN}, got "${typed}"`);
  const { opened, request } = await openedHost(await onContainersHost(call, vmid));
  try {
    const parts = await provisionParts(call, opened, await stepProgress(call.parts));
    const found = await findAdoptable(parts, request, {
      vmid,
      name: typeof name === "string" ? name : undefined,
      hostKey: typeof hostKey === "string" ? hostKey : undefined,
      privileged: privileged === true,
    });
    if (yes !== true) await confirm(call, found.words);
    const done = await adopt(parts, request, found);
    const exitNode = exitNodeFacts(done.view);
    const value = { host: request.hostName, exitNode, steps: done.steps };
    return { value, text: `"${found.name}" works: it is container ${vmid} on ${found.guest.node}` };
  } finally {
    opened.pve.close();
  }
}

async function confirm(call: Call, words: readonly string[]): Promise<void> {
  for (const line of words) call.parts.say(`to be changed: ${line}`);
  if (!call.parts.interactive)
    throw new Failure("unconfirmed", "nobody is there to confirm this", { advice: "add --yes" });
  if (await terminalPrompt(call.signal).confirm("Adopt it?")) return;
  throw new Failure("cancelled", "cancelled; nothing was changed");
}
