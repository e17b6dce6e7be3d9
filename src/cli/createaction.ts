import { Failure } from "../kit/failure.js";
import { formatDuration } from "../kit/time.js";
import { create, type Done, plan, type Wanted } from "../provision/converge.js";
import { coordinatorOutcome, type ExitNodeFacts, exitNodeFacts, forwardAdvice } from "../provision/outcome.js";
import { describeStep } from "../provision/plan.js";
import { DEFAULTS, parseOptions } from "../provision/spec.js";
import { tryLock } from "../sys/lock.js";
import type { Call, Outcome } from "./command.js";
import { readConfig } from "./config.js";
import { openedHost, provisionParts } from "./createparts.js";
import { stepProgress } from "./createprogress.js";

/** `create` and `plan`: the same observation and the same plan; one of them applies it. */
export async function createExitNode(call: Call): Promise<Outcome> {
  if (call.options.dryRun === true) return planExitNode(call);
  const startedAt = call.parts.clock.now();
  const done = await madeExitNode(call);
  const seconds = Math.round(call.parts.clock.now() - startedAt) / 1_000;
  const exitNode = exitNodeFacts(done.view);
  const coordinator = coordinatorOutcome(done.view);
  const next = "exitnode key create";
  const value = {
    exitNode,
    changed: done.changed,
    steps: done.steps,
    seconds,
    ...(coordinator === undefined ? {} : { coordinator }),
    next,
  };
  return { value, text: createdText(done, exitNode, seconds, next) };
}

/** Makes it so; for `setup` too. Two runs for one exit node would make two containers, so the second is refused. */
export async function madeExitNode(call: Call): Promise<Done> {
  const wanted = await wantedExitNode(call);
  const { opened, request } = await openedHost(call);
  const unlock = await tryLock(`exitnode-create-${call.parts.paths.state}-${request.hostName}-${wanted.name}`);
  if (unlock === undefined)
    throw new Failure("already-running", `another create of "${wanted.name}" on ${request.hostName} is running here`, {
      advice: "wait for it to end",
    });
  try {
    const parts = await provisionParts(call, opened, await stepProgress(call.parts));
    return await create(parts, request, wanted);
  } finally {
    opened.pve.close();
    await unlock();
  }
}

export async function planExitNode(call: Call): Promise<Outcome> {
  const wanted = await wantedExitNode(call);
  const { opened, request } = await openedHost(call);
  try {
    const quiet = { step: <T>(_words: string, run: (note: () => void) => Promise<T>) => run(() => {}) };
    const planned = await plan(await provisionParts(call, opened, quiet), request, wanted);
    const steps = planned.steps.map((step) => ({ step: step.do, words: describeStep(step, planned.view) }));
    const value = {
      name: wanted.name,
      host: request.hostName,
      changes: steps.length > 0,
      steps,
      differences: planned.differences,
    };
    if (steps.length === 0)
      return { value, text: `nothing to do: "${wanted.name}" on ${request.hostName} is as wanted` };
    const lines = [
      ...planned.differences.map((words) => `  ${words}`),
      `create would:`,
      ...steps.map(({ words }, i) => `  ${i + 1}. ${words}`),
    ];
    return { value, text: lines.join("\n"), exitCode: 4 };
  } finally {
    opened.pve.close();
  }
}

async function wantedExitNode(call: Call): Promise<Wanted> {
  const { name, coordinator } = call.options;
  if (typeof coordinator === "string") await checkCoordinator(call, coordinator);
  return { name: typeof name === "string" ? name : DEFAULTS.name, given: parseOptions(call.options) };
}

/** One coordinator per configuration: a device of two networks would need two of everything. */
async function checkCoordinator({ parts }: Call, url: string): Promise<void> {
  const record = (await readConfig(parts.files, parts.paths.config)).coordinator;
  const wanted = URL.canParse(url) ? new URL(url).origin : url;
  const known = [...(record?.urls ?? []), ...(record?.adminUrls ?? [])].map((one) => new URL(one).origin);
  if (known.includes(wanted)) return;
  throw new Failure(
    "coordinator-unknown",
    `the config knows no coordinator at ${url}; it knows: ${[...new Set(known)].join(", ") || "none"}`,
    {
      advice: `put it under coordinator: in ${parts.paths.config}/config.yaml, or leave --coordinator out`,
    },
  );
}

function createdText(done: Done, exitNode: ExitNodeFacts, seconds: number, next: string): string {
  const size = `${exitNode.cores} core${exitNode.cores === 1 ? "" : "s"}, ${exitNode.memoryMiB} MiB, ${exitNode.dataPlane ?? "no"} data plane`;
  const where = `container ${exitNode.vmid} on ${exitNode.pveNode} at ${exitNode.address ?? "no address"} (${size})`;
  if (!done.changed) return `nothing to do: "${exitNode.name}", ${where}, is as wanted`;
  const egress = [exitNode.egress?.ipv4, exitNode.egress?.ipv6].filter((ip) => ip !== undefined).join(" and ");
  const forward = forwardAdvice(done.view);
  return [
    `"${exitNode.name}" works: ${where}, made in ${formatDuration(seconds * 1_000)}`,
    ...(egress === "" ? [] : [`the Internet sees it as ${egress}`]),
    ...(forward === undefined ? [] : [forward]),
    `next, for a laptop: ${next}, then there: exitnode up --join KEY && exitnode use ${exitNode.name}`,
  ].join("\n");
}
