import { Failure } from "../kit/failure.js";
import { coordinatorOutcome, exitNodeFacts, forwardAdvice } from "../provision/outcome.js";
import type { Done } from "../provision/run.js";
import type { Call, Outcome } from "./command.js";
import { readConfig } from "./config.js";
import { madeExitNode } from "./createaction.js";
import { hostAdd } from "./hostadd.js";
import { hostOf, onlyHost } from "./hosts.js";
import { makeJoinKey } from "./joinkey.js";

const HOST_DEFAULT = "pve";
const ROOT = "root@pam";

/**
 * The homelab one-shot. A root login is used once: it makes role, user and token, and is forgotten; unless the
 * host's kernel has no WireGuard, when only root@pam may pass /dev/net/tun to the container.
 */
export async function setup(call: Call): Promise<Outcome> {
  const { parts } = call;
  const { host, isKnown } = await whichHost(call);
  const withHost: Call = { ...call, options: { ...call.options, host } };
  const done = isKnown ? await madeExitNode(withHost) : await addAndMake(withHost, host);
  const key = await makeJoinKey(call, { role: "device" });
  const exitNode = exitNodeFacts(done.view);
  const next = `exitnode up --join ${key.joinKey} && exitnode use ${exitNode.name}`;
  const coordinator = coordinatorOutcome(done.view);
  const forward = forwardAdvice(done.view);
  parts.say(`"${exitNode.name}" ${done.changed ? "works" : "is as wanted"}`);
  return {
    value: { host, exitNode, changed: done.changed, steps: done.steps, coordinator, joinKey: key.joinKey, next },
    text: [
      `container ${exitNode.vmid} on ${exitNode.pveNode} at ${exitNode.address}, ${exitNode.dataPlane} data plane`,
      ...(forward === undefined ? [] : [forward]),
      "on the first device, as root, within 15 minutes:",
      `  ${next}`,
    ].join("\n"),
  };
}

/** A host that is kept already is used as it is, unless its URL is given anew. */
async function whichHost({ parts, options }: Call): Promise<{ host: string; isKnown: boolean }> {
  const { hosts } = await readConfig(parts.files, parts.paths.config);
  const anew = options.url !== undefined || Object.keys(hosts).length === 0;
  const host = typeof options.host === "string" ? options.host : anew ? HOST_DEFAULT : await onlyHost(parts);
  return { host, isKnown: options.url === undefined && Object.hasOwn(hosts, host) };
}

async function addAndMake(call: Call, host: string): Promise<Done> {
  const { parts, options } = call;
  // Asked for once, held in memory, and written down only if the container cannot do without it.
  const secrets = new Map<string, string>();
  const add = async (how: Call["options"]): Promise<void> => {
    // Whoever hands `setup` a root login has agreed to what it makes.
    const added = { ...options, agreed: true, ...how };
    parts.say(firstLine(await hostAdd({ ...call, args: [host], options: added }, secrets)));
  };
  await add({ bootstrap: options.user === ROOT && options.keepRoot !== true });
  const { login } = await hostOf(parts, host);
  try {
    return await madeExitNode(call);
  } catch (error) {
    const mayKeepRoot = secrets.has(ROOT) && login !== ROOT;
    if (!(error instanceof Failure) || error.code !== "data-plane-unavailable" || !mayKeepRoot) throw error;
    parts.say(`the host's kernel has no WireGuard, and only ${ROOT} may pass /dev/net/tun to a container instead:`);
    parts.say(`so the ${ROOT} login is kept for "${host}". To be rid of it, load WireGuard on the host, then run`);
    parts.say(`exitnode host add ${host} --bootstrap`);
    // Without a URL it is the host that was just confirmed and pinned.
    await add({ user: ROOT, url: undefined, bootstrap: false });
    return madeExitNode(call);
  }
}

const firstLine = ({ text }: Outcome): string => text.split("\n")[0] ?? "";
