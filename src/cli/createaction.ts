import { Failure } from "../kit/failure.js";
import { formatDuration } from "../kit/time.js";
import { create } from "../provision/converge.js";
import {
  coordinatorOutcome,
  type ExitNodeFacts,
  exitNodeFacts,
  formerAdvice,
  forwardAdvice,
} from "../provision/outcome.js";
import type { Done } from "../provision/run.js";
import { tryLock } from "../sys/lock.js";
import type { Call, Outcome } from "./command.js";
import { type Choice, type Made, makeOnHosts, nameOn, refuseOnlyOnce } from "./createhosts.js";
import { openedHost, provisionParts } from "./createparts.js";
import { stepProgress } from "./createprogress.js";
import { wantedExitNode } from "./createwanted.js";
import { type Answer, failuresOf, forHost, givenHosts } from "./everyhost.js";
import { planExitNodes } from "./planaction.js";

/** `create`: makes it so, on one host or on several. */
export async function createExitNode(call: Call): Promise<Outcome> {
  if (call.options.dryRun === true) return planExitNodes(call);
  const hosts = givenHosts(call);
  if (hosts.length > 1) return createOnHosts(call, hosts);
  const startedAt = call.parts.clock.now();
  const done = await madeExitNode(hosts[0] === undefined ? call : forHost(call, hosts[0]));
  const seconds = Math.round(call.parts.clock.now() - startedAt) / 1_000;
  const { text, ...made } = shownOf(done, seconds);
  return { value: { ...made, next: NEXT }, text };
}

const NEXT = "exitnode key create";

/** Exit code 1 when one failed: the others are there all the same. */
async function createOnHosts(call: Call, hosts: readonly string[]): Promise<Outcome> {
  refuseOnlyOnce(call, hosts);
  const answers = await makeOnHosts(call, hosts, madeExitNode);
  const exitNodes = answers.map((answer) => {
    const { host } = answer;
    if ("error" in answer) return { host, name: nameOn(call, host), error: answer.error };
    const { text: _, ...made } = shownOf(answer.value.done, answer.value.seconds);
    return { host, name: answer.value.name, ...made };
  });
  const failed = failuresOf(answers).length;
  return {
    value: { exitNodes, failed, next: NEXT },
    text: answers.map((answer) => describeAnswer(call, answer)).join("\n\n"),
    ...(failed === 0 ? {} : { exitCode: 1 }),
  };
}

function describeAnswer(call: Call, answer: Answer<Made>): string {
  if ("value" in answer) return `${answer.host}: ${shownOf(answer.value.done, answer.value.seconds).text}`;
  const { host, error } = answer;
  const advice = error.advice === undefined ? "" : `\n  → ${error.advice.replaceAll("\n", "\n    ")}`;
  return `${host}: "${nameOn(call, host)}" was not made: ${error.message} [${error.code}]${advice}`;
}

/** Makes it so; for `setup` too. Two runs for one exit node would make two containers, so the second is refused. */
export async function madeExitNode(call: Call, choice?: Choice): Promise<Done> {
  const wanted = await wantedExitNode(call);
  const { opened, request } = await openedHost(call);
  const unlock = await tryLock(`exitnode-create-${call.parts.paths.state}-${request.hostName}-${wanted.name}`);
  if (unlock === undefined)
    throw new Failure("already-running", `another create of "${wanted.name}" on ${request.hostName} is running here`, {
      advice: "wait for it to end",
    });
  try {
    const progress = choice?.progress ?? (await stepProgress(call.parts));
    const parts = await provisionParts(call, opened, progress);
    return await create(parts, { ...request, pveNode: choice?.pveNode ?? request.pveNode }, wanted);
  } finally {
    opened.pve.close();
    await unlock();
  }
}

/** One exit node's share of the result, as value and in words. */
function shownOf(done: Done, seconds: number) {
  const exitNode = exitNodeFacts(done.view);
  const coordinator = coordinatorOutcome(done.view);
  return {
    exitNode,
    changed: done.changed,
    steps: done.steps,
    seconds,
    ...(coordinator === undefined ? {} : { coordinator }),
    text: createdText(done, exitNode, seconds),
  };
}

/** The fingerprint is from the container itself, over SSH: nobody has to compare it by eye. */
const signAdvice = (name: string, fingerprint: string): string =>
  `the other devices let it in once a trusted device has signed it; there: exitnode lock sign ${name} --fingerprint ${fingerprint}`;

function createdText(done: Done, exitNode: ExitNodeFacts, seconds: number): string {
  const size = `${exitNode.cores} core${exitNode.cores === 1 ? "" : "s"}, ${exitNode.memoryMiB} MiB, ${exitNode.dataPlane ?? "no"} data plane`;
  const where = `container ${exitNode.vmid} on ${exitNode.pveNode} at ${exitNode.address ?? "no address"} (${size})`;
  const former = formerAdvice(done.view);
  const open = [
    ...(former === undefined ? [] : [former]),
    ...(exitNode.unsigned === undefined ? [] : [signAdvice(exitNode.name, exitNode.unsigned)]),
  ];
  if (!done.changed) return [`nothing to do: "${exitNode.name}", ${where}, is as wanted`, ...open].join("\n");
  const isNew = done.steps.some(({ step }) => step === "create-container");
  const egress = [exitNode.egress?.ipv4, exitNode.egress?.ipv6].filter((ip) => ip !== undefined).join(" and ");
  const forward = forwardAdvice(done.view);
  return [
    `"${exitNode.name}" works: ${where}, ${isNew ? "made" : "changed"} in ${formatDuration(seconds * 1_000)}`,
    ...(egress === "" ? [] : [`the Internet sees it as ${egress}`]),
    ...(forward === undefined ? [] : [forward]),
    ...(done.view.placement?.warnings ?? []).map(({ what }) => `warning: ${what} (see exitnode host check)`),
    ...open,
    `next, for a laptop: ${NEXT}, then there: exitnode up --join KEY && exitnode use ${exitNode.name}`,
  ].join("\n");
}
