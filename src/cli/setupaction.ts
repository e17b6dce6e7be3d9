import { Failure } from "../kit/failure.js";
import { coordinatorOutcome, exitNodeFacts, forwardAdvice } from "../provision/outcome.js";
import type { Done } from "../provision/run.js";
import { secretFromStdin, terminalPrompt } from "../sys/prompt.js";
import { createdKey } from "../wire/adminapi.js";
import { callCoordinator } from "./admin.js";
import type { Call, Outcome } from "./command.js";
import { readConfig } from "./config.js";
import { madeExitNode } from "./createaction.js";
import { hostAdd } from "./hostadd.js";
import { hostOf } from "./hosts.js";

const HOST_DEFAULT = "pve";
const ROOT = "root@pam";

/**
 * The homelab one-shot. A root login is used once: it makes role, user and token, and is forgotten; unless the
 * host's kernel has no WireGuard, when only root@pam may pass /dev/net/tun to the container.
 */
export async function setup(call: Call): Promise<Outcome> {
  const { parts, options } = call;
  const host = typeof options.host === "string" ? options.host : HOST_DEFAULT;
  const withHost: Call = { ...call, options: { ...options, host } };
  const done = (await isKnown(call, host)) ? await madeExitNode(withHost) : await addAndMake(withHost, host);
  const key = await callCoordinator(call, createdKey, "POST", "/keys", { role: "device" });
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
async function isKnown({ parts, options }: Call, host: string): Promise<boolean> {
  return options.url === undefined && Object.hasOwn((await readConfig(parts.files, parts.paths.config)).hosts, host);
}

async function addAndMake(call: Call, host: string): Promise<Done> {
  const { parts, options } = call;
  const asRoot = options.user === ROOT && options.keepRoot !== true;
  if (!asRoot) {
    parts.say(firstLine(await hostAdd({ ...call, args: [host] })));
    return madeExitNode(call);
  }
  // Asked for once, held in memory, and written down only if the container cannot do without it.
  const secret = await rootSecret(call);
  const env = { ...parts.env, EXITNODE_SECRET: secret };
  const add = async (bootstrap: boolean): Promise<void> => {
    // Confirmed the first time, the certificate is pinned from then on.
    const fingerprint = bootstrap ? options.fingerprint : (await hostOf(parts, host)).fingerprint;
    // Whoever hands `setup` a root login has agreed to what it makes.
    const added = { ...options, bootstrap, agreed: true, fingerprint, secretStdin: false };
    parts.say(firstLine(await hostAdd({ ...call, args: [host], options: added, parts: { ...parts, env } })));
  };
  await add(true);
  try {
    return await madeExitNode(call);
  } catch (error) {
    if (!(error instanceof Failure) || error.code !== "data-plane-unavailable") throw error;
    parts.say(`the host's kernel has no WireGuard, and only ${ROOT} may pass /dev/net/tun to a container instead:`);
    parts.say(`so the ${ROOT} login is kept for "${host}". To be rid of it, load WireGuard on the host, then run`);
    parts.say(`exitnode host add ${host} --bootstrap`);
    await add(false);
    return madeExitNode(call);
  }
}

async function rootSecret({ parts, options, signal }: Call): Promise<string> {
  if (options.secretStdin === true) return secretFromStdin();
  const set = parts.env.EXITNODE_SECRET;
  if (set) return set;
  if (parts.interactive) return terminalPrompt(signal).secret(`The password of ${ROOT}?`);
  throw new Failure("secret-missing", `the password of ${ROOT} is needed, and there is no terminal to ask on`, {
    advice: "give it as one line on stdin with --secret-stdin, or in EXITNODE_SECRET",
  });
}

const firstLine = ({ text }: Outcome): string => text.split("\n")[0] ?? "";
