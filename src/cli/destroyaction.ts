import { Failure } from "../kit/failure.js";
import { destroy, findDoomed } from "../provision/destroy.js";
import { terminalPrompt } from "../sys/prompt.js";
import type { Call, Outcome } from "./command.js";
import { openedHost, provisionParts } from "./createparts.js";
import { stepProgress } from "./createprogress.js";
import { onItsHost } from "./itshost.js";

/** Says what will be gone, asks, and takes it away. */
export async function destroyExitNode(call: Call): Promise<Outcome> {
  const [name = ""] = call.args;
  const left = (host: string): string[] => [
    `if only the coordinator knows of it: exitnode destroy ${name} --host ${host}`,
  ];
  const { opened, request } = await openedHost(await onItsHost(call, name, left));
  try {
    const parts = await provisionParts(call, opened, await stepProgress(call.parts));
    const doomed = await findDoomed(parts, request, name, { templates: call.options.template === true });
    if (doomed.words.length > 0 && call.options.yes !== true) await confirm(call, doomed.words);
    const gone = await destroy(parts, request, name, doomed);
    const told = gone.coordinator === "not-told" ? "; the coordinator was not told of it" : "";
    const container = gone.vmid === undefined ? "there was no container" : `container ${gone.vmid} is gone`;
    return { value: gone, text: `"${name}": ${container}${told}` };
  } finally {
    opened.pve.close();
  }
}

async function confirm(call: Call, words: readonly string[]): Promise<void> {
  for (const line of words) call.parts.say(`to be taken away: ${line}`);
  if (!call.parts.interactive)
    throw new Failure("unconfirmed", "nobody is there to confirm this", { advice: "add --yes" });
  if (await terminalPrompt(call.signal).confirm("Take it away?")) return;
  throw new Failure("cancelled", "cancelled; nothing was changed");
}
