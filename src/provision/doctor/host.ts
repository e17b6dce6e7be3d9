import type { Failure } from "../../kit/failure.js";
import { type Millis, SECOND } from "../../kit/time.js";
import { addressesOf, ownContainers } from "../observe.js";
import type { HostRequest } from "../parts.js";
import { kernelNews, waysAdvice } from "../preflight/dataplane.js";
import { judgeExisting } from "../preflight/existing.js";
import { advisory, type NodeFacts, observeHost } from "../preflight/facts.js";
import { type Finding, stops, warns } from "../preflight/finding.js";
import { judgeHost } from "../preflight/judge.js";
import type { OwnContainer } from "../view.js";
import { agentFindings, lineFindings } from "./agent.js";
import { configFindings } from "./config.js";
import { containerFindings } from "./container.js";
import { within } from "./deadline.js";
import { healthFindings } from "./health.js";
import { type Door, type HostLook, lookInside, openDoor } from "./look.js";
import { isSlowKernel, pveNodeFindings, slowAdvice } from "./pvenode.js";
import { concerning, TASKS_WITHIN_SECONDS, taskFindings } from "./tasks.js";

/** A healthy host takes some tenths of a second for each of its two rounds. */
export const API_WITHIN_MS: Millis = 6 * SECOND;
/** Exit nodes of one host that are looked at. */
const CONTAINERS_MAX = 8;

/**
 * Everything that is recognised about a host and the exit nodes on it, causes before what follows from them. Nothing
 * is changed, and whatever does not answer is itself a finding; a host that lets nobody in is the one Failure.
 */
export async function examineHost(look: HostLook, request: HostRequest): Promise<Finding[]> {
  const { host } = look;
  const { hostName, login, pveNode, defaults } = request;
  const wish = { hostName, login, pveNode, options: defaults, shell: look.hostShell !== undefined };
  const first = await within(look, API_WITHIN_MS, `the host "${hostName}"`, async () => {
    const [guests, own] = await Promise.all([host.guests(), ownContainers(host)]);
    return { own: own.slice(0, CONTAINERS_MAX), facts: await observeHost(host, wish, guests, look.appliance) };
  });
  if ("failure" in first) throw first.failure;
  const { facts, own } = first.value;
  const opened = openDoor(look, own);
  const about = async (name: string, work: () => Promise<Finding[]>): Promise<Finding[]> => {
    const answer = await within(look, API_WITHIN_MS, `the host "${hostName}"`, work);
    return "value" in answer ? answer.value : [unseen(name, answer.failure)];
  };
  try {
    const [tasks, described, existing, ...insides] = await Promise.all([
      about("tasks", () => failedTasks(look, request, own, facts.inside?.node)),
      about("containers", async () =>
        (await Promise.all(own.map((container) => outside(look, request, container, facts.inside)))).flat(),
      ),
      about("containers", () => judgeExisting(host, hostName, own)),
      ...own.map((container) => inside(look, request, container, facts.inside?.kernel, opened)),
    ]);
    return [
      ...judgeHost(wish, facts).filter(({ name }) => own.length === 0 || !FOR_A_NEW_ONE.has(name)),
      ...rootTokenFindings(wish, facts.inside?.kernel),
      ...tasks,
      ...described,
      ...insides.flat(),
      ...existing,
      ...doorFindings(await opened, own, facts.inside),
    ];
  } finally {
    (await opened).ssh?.close();
  }
}

/** What a new exit node would need is no trouble of one that is there. */
const FOR_A_NEW_ONE = new Set([
  ...["bridge", "clone source", "container storage", "data plane", "DHCP"],
  ...["pool", "snapshots", "template", "template storage", "upload"],
]);

/** Many make a token of root's and take it for root. */
function rootTokenFindings(
  { login, shell, hostName }: { readonly login: string; readonly shell: boolean; readonly hostName: string },
  kernel: string | undefined,
): Finding[] {
  if (!login.startsWith("root@pam!") || shell || kernelNews(kernel) === "brings") return [];
  return [
    warns("login", `${login} is a token, and to Proxmox no token is root, not even root's`, {
      why: "it may neither pass /dev/net/tun nor set features other than nesting",
      advice: waysAdvice({ hostName }),
    }),
  ];
}

/** A part that could not be looked at is a finding about itself. */
export const unseen = (name: string, { message, advice, code }: Failure): Finding => ({
  ...warns(name, `could not be looked at: ${message}`, advice === undefined ? {} : { advice }),
  code,
});

/** Says of which exit node a finding is. */
const of = ({ identity }: OwnContainer, findings: readonly Finding[]): Finding[] =>
  findings.map((finding) => ({ ...finding, name: `${identity.name}: ${finding.name}` }));

async function outside(
  { host }: HostLook,
  { hostName, login }: HostRequest,
  container: OwnContainer,
  facts: NodeFacts | undefined,
): Promise<Finding[]> {
  const [addresses, canSnapshot] = await Promise.all([
    container.running ? addressesOf(host, container) : undefined,
    advisory(host.canSnapshot(container.node, container.vmid)),
  ]);
  const storages = facts?.storages ?? [];
  return of(container, configFindings({ container, hostName, login, addresses, storages, canSnapshot }));
}

async function failedTasks(
  { host, clock }: HostLook,
  { login }: HostRequest,
  own: readonly OwnContainer[],
  node: string | undefined,
): Promise<Finding[]> {
  const nodes = [...new Set([...own.map((one) => one.node), ...(node === undefined ? [] : [node])])];
  const running = new Map(own.map((one) => [one.vmid, one.running]));
  const sinceSeconds = clock.wall() / SECOND - TASKS_WITHIN_SECONDS;
  const failed = (await Promise.all(nodes.map((one) => advisory(host.failedTasks(one))))).flatMap((some) => some ?? []);
  const read = concerning(failed, { login, running, sinceSeconds }).map(async (task) => ({
    ...task,
    log: (await advisory(host.taskLog(task.upid))) ?? [],
  }));
  return taskFindings(await Promise.all(read), running);
}

async function inside(
  look: HostLook,
  request: HostRequest,
  container: OwnContainer,
  kernel: string | undefined,
  door: Promise<Door>,
): Promise<Finding[]> {
  if (!container.running) return [];
  const { symptoms, inside: seen, failure } = await lookInside(look, request, container, door);
  const closed = failure === undefined ? [] : [closedFinding(failure)];
  if (symptoms === undefined) return of(container, closed);
  const { hostName } = request;
  const examined = { container, hostName, symptoms, inside: seen, kernel, wallMs: look.clock.wall() };
  const agent = seen?.agent === undefined ? [] : [...lineFindings(seen.agent), ...agentFindings(seen.agent)];
  return of(container, [...containerFindings(examined), ...healthFindings(examined), ...agent, ...closed]);
}

/** Another host key is more than a closed door. */
function closedFinding(failure: Failure): Finding {
  const { code, message, advice } = failure;
  if (code !== "host-key-mismatch") return unseen("inside", failure);
  return stops("SSH", code, message, advice === undefined ? {} : { advice });
}

function doorFindings({ failure, facts }: Door, own: readonly OwnContainer[], node: NodeFacts | undefined): Finding[] {
  if (failure !== undefined) return [unseen("SSH jump", failure)];
  if (facts !== undefined) return pveNodeFindings(facts, own);
  // Without a shell there, only the kernel's version hints at a slow card.
  if (own.length === 0 || !isSlowKernel(node?.kernel)) return [];
  return [
    warns("network card", `with kernel ${node?.kernel}, some network cards segment UDP very slowly`, {
      why: "sending through the tunnel then takes a hundred times as long; if yours is fast, leave it",
      advice: slowAdvice("PORT"),
    }),
  ];
}
