import { asFailure, Failure } from "../kit/failure.js";
import { formatDuration } from "../kit/time.js";
import { ownContainers } from "../provision/observe.js";
import { exitNodeFacts } from "../provision/outcome.js";
import { describeStep } from "../provision/plan.js";
import { planReplace, type Replaced, replace } from "../provision/replace.js";
import { DEFAULTS } from "../provision/spec.js";
import { planUpgradeOf, upgrade } from "../provision/upgrade.js";
import { tryLock } from "../sys/lock.js";
import type { Call, Outcome } from "./command.js";
import { openedHost, provisionParts } from "./createparts.js";
import { noProgress, stepProgress } from "./createprogress.js";
import { forHost, givenOrAllHosts, noExitNodes } from "./everyhost.js";
import { openHost } from "./hosts.js";
import { onItsHost } from "./itshost.js";

/** `upgrade`: one exit node, or all of them in turn until one fails. */
export async function upgradeExitNodes(call: Call): Promise<Outcome> {
  const [name] = call.args;
  if (call.options.all !== true) {
    const wanted = name ?? DEFAULTS.name;
    return one(await onItsHost(call, wanted), wanted);
  }
  if (name !== undefined) throw new Failure("usage", `expected a name or --all, got "${name}" and --all`);
  const found = await everyExitNode(call);
  const outcomes: Outcome[] = [];
  for (const { host, name } of found)
    try {
      outcomes.push(await one(forHost(call, host), name));
    } catch (error) {
      throw stopped(
        asFailure(error),
        { name, host },
        found.slice(0, outcomes.length),
        found.slice(outcomes.length + 1),
      );
    }
  const text = outcomes.map((outcome) => outcome.text).join("\n") || (await noExitNodes(call));
  const changes = outcomes.some(({ exitCode }) => exitCode !== undefined);
  return { value: { exitNodes: outcomes.map(({ value }) => value) }, text, ...(changes ? { exitCode: 4 } : {}) };
}

type Found = { readonly host: string; readonly name: string };

/** A host that does not answer stops everything before anything was changed. */
async function everyExitNode(call: Call): Promise<Found[]> {
  const found: Found[] = [];
  const seen = new Set<string>();
  for (const host of await givenOrAllHosts(call)) {
    const { pve } = await openHost(call.parts, host, { signal: call.signal });
    try {
      for (const { identity } of await ownContainers(pve)) {
        // One Proxmox host may be in the config twice.
        if (!seen.has(identity.id)) found.push({ host, name: identity.name });
        seen.add(identity.id);
      }
    } finally {
      pve.close();
    }
  }
  return found;
}

function stopped(reason: Failure, at: Found, done: readonly Found[], left: readonly Found[]): Failure {
  const names = (all: readonly Found[]): string =>
    all.map(({ name, host }) => `${name} (${host})`).join(", ") || "none";
  return new Failure(
    reason.code,
    `"${at.name}" on ${at.host}: ${reason.message}; upgraded before it: ${names(done)}; not begun: ${names(left)}`,
    { advice: reason.advice, cause: reason },
  );
}

async function one(call: Call, name: string): Promise<Outcome> {
  if (call.options.dryRun === true) return planned(call, name);
  const startedAt = call.parts.clock.now();
  const { opened, request } = await openedHost(call);
  const unlock = await tryLock(`exitnode-create-${call.parts.paths.state}-${request.hostName}-${name}`);
  if (unlock === undefined)
    throw new Failure("already-running", `"${name}" on ${request.hostName} is being worked on by another run here`, {
      advice: "wait for it to end",
    });
  try {
    const parts = await provisionParts(call, opened, await stepProgress(call.parts));
    const run = call.options.replace === true ? replace : upgrade;
    const done: Replaced = await run(parts, request, name);
    const seconds = Math.round(call.parts.clock.now() - startedAt) / 1_000;
    const exitNode = exitNodeFacts(done.view);
    const { changed, steps, outageSeconds } = done;
    const where = `container ${exitNode.vmid} on ${exitNode.pveNode}, version ${exitNode.agentVersion ?? "unknown"}`;
    const outage = outageSeconds === undefined ? "" : `; at most ${outageSeconds} s without traffic`;
    const text = changed
      ? `"${name}" works: ${where}, in ${formatDuration(seconds * 1_000)}${outage}`
      : `nothing to do: "${name}", ${where}, is as wanted`;
    const value = { host: request.hostName, exitNode, changed, steps, seconds };
    return { value: outageSeconds === undefined ? value : { ...value, outageSeconds }, text };
  } finally {
    opened.pve.close();
    await unlock();
  }
}

const planInPlace = async (...given: Parameters<typeof planUpgradeOf>) => {
  const { view, steps, differences } = await planUpgradeOf(...given);
  return { differences, steps: steps.map((step) => ({ step: step.do, words: describeStep(step, view) })) };
};

async function planned(call: Call, name: string): Promise<Outcome> {
  const { opened, request } = await openedHost(call);
  try {
    const parts = await provisionParts(call, opened, noProgress);
    const { steps, differences } = await (call.options.replace === true ? planReplace : planInPlace)(
      parts,
      request,
      name,
    );
    const value = { name, host: request.hostName, changes: steps.length > 0, steps, differences };
    const told = differences.map((words) => `  ${words}`);
    if (steps.length === 0)
      return { value, text: [`nothing to do: "${name}" on ${request.hostName} is as wanted`, ...told].join("\n") };
    const lines = [...told, `upgrade of "${name}" would:`, ...steps.map(({ words }, i) => `  ${i + 1}. ${words}`)];
    return { value, text: lines.join("\n"), exitCode: 4 };
  } finally {
    opened.pve.close();
  }
}
