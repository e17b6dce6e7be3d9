import { Failure } from "../kit/failure.js";
import { type Planned, plan } from "../provision/converge.js";
import { ownContainers } from "../provision/observe.js";
import { describeStep } from "../provision/plan.js";
import type { Finding } from "../provision/preflight/finding.js";
import type { Wanted } from "../provision/run.js";
import type { Call, Outcome } from "./command.js";
import { forOneOf, nameOn, refuseOnlyOnce } from "./createhosts.js";
import { openedHost, provisionParts } from "./createparts.js";
import { noProgress } from "./createprogress.js";
import { wantedExitNode } from "./createwanted.js";
import {
  type Answer,
  askHosts,
  atMost,
  attempt,
  forHost,
  givenHosts,
  givenOrAllHosts,
  noExitNodes,
  valuesOf,
} from "./everyhost.js";
import { openHost } from "./hosts.js";
import { renderTable } from "./table.js";

/** `plan`: what `create` would change, for one exit node, for one on each of several hosts, or for all there are. */
export async function planExitNodes(call: Call): Promise<Outcome> {
  if (call.options.all === true) return planAll(call);
  const hosts = givenHosts(call);
  if (hosts.length > 1) {
    refuseOnlyOnce(call, hosts);
    const answers = await askHosts(call, hosts, async (within, host) => {
      const one = forOneOf(within, host);
      return planEach(one, [await wantedExitNode(one)]);
    });
    return shown(answers, { nameOf: (host) => nameOn(call, host) });
  }
  const one = hosts[0] === undefined ? call : forHost(call, hosts[0]);
  const [row] = await planEach(one, [await wantedExitNode(one)]);
  if (row === undefined) throw new Failure("internal", "a plan was asked for, and none was made");
  if ("error" in row) throw row.error;
  return { value: row, text: describe(row), ...(row.changes ? { exitCode: 4 } : {}) };
}

export type Plan = {
  readonly name: string;
  readonly host: string;
  readonly changes: boolean;
  readonly steps: readonly { readonly step: string; readonly words: string }[];
  readonly differences: readonly string[];
  /** What of the host does not stop a create and is worth knowing. */
  readonly warnings: readonly Finding[];
};
/** Without a name, the whole host could not be asked. */
export type NoPlan = { readonly host: string; readonly name?: string; readonly error: Failure };

/** Every exit node there is, on the given hosts or on all. A host that is in the config twice is planned for once. */
async function planAll(call: Call): Promise<Outcome> {
  for (const option of ["name", "vmid", "pveNode"])
    if (call.options[option] !== undefined)
      throw new Failure("usage", "--all is for every exit node there is: it takes no name, number or PVE node");
  const hosts = await givenOrAllHosts(call);
  const listed = await askHosts(call, hosts, async (within, host) => {
    const { pve } = await openHost(within.parts, host, { signal: within.signal });
    try {
      return (await ownContainers(pve)).map(({ identity }) => identity);
    } finally {
      pve.close();
    }
  });
  const known = new Set<string>();
  const found = new Map<string, string[]>();
  for (const { host, value } of valuesOf(listed)) {
    const fresh = value.filter(({ id }) => !known.has(id));
    for (const { id } of fresh) known.add(id);
    found.set(
      host,
      fresh.map(({ name }) => name),
    );
  }
  const answers = await Promise.all(
    listed.map(async (answer): Promise<Answer<(Plan | NoPlan)[]>> => {
      if ("error" in answer) return answer;
      const wanted = (found.get(answer.host) ?? []).map((name): Wanted => ({ name, given: {} }));
      if (wanted.length === 0) return { host: answer.host, value: [] };
      const [planned] = await askHosts(call, [answer.host], (within, host) => planEach(forHost(within, host), wanted));
      return planned ?? { host: answer.host, value: [] };
    }),
  );
  return shown(answers, { none: await noExitNodes(call) });
}

/** More exit nodes of one host than this are looked at one after the other. */
const LOOKS_AT_ONCE = 5;

/** Plans on one host; one exit node that cannot be looked at hides no other. */
async function planEach(call: Call, wanted: readonly Wanted[]): Promise<(Plan | NoPlan)[]> {
  const { opened, request } = await openedHost(call);
  const host = request.hostName;
  try {
    const parts = await provisionParts(call, opened, noProgress);
    return await atMost(LOOKS_AT_ONCE, wanted, async (one) => {
      const answer = await attempt(host, () => plan(parts, request, one));
      return "error" in answer ? { ...answer, name: one.name } : planOf(host, one.name, answer.value);
    });
  } finally {
    opened.pve.close();
  }
}

function planOf(host: string, name: string, { steps, view, differences }: Planned): Plan {
  const worded = steps.map((step) => ({ step: step.do, words: describeStep(step, view) }));
  return {
    name,
    host,
    changes: worded.length > 0,
    steps: worded,
    differences,
    warnings: view.placement?.warnings ?? [],
  };
}

/** A row for each exit node, and for each host that could not be asked; then what would be done, one by one. */
function shown(
  answers: readonly Answer<readonly (Plan | NoPlan)[]>[],
  { nameOf, none = "" }: { readonly nameOf?: (host: string) => string; readonly none?: string },
): Outcome {
  const rows = answers.flatMap((answer): readonly (Plan | NoPlan)[] => {
    if ("value" in answer) return answer.value;
    return [nameOf === undefined ? answer : { ...answer, name: nameOf(answer.host) }];
  });
  const failed = rows.filter((row) => "error" in row).length;
  const changes = rows.some((row) => "changes" in row && row.changes);
  const table = renderTable([
    ["NAME", "HOST", "PLAN"],
    ...rows.map((row) => [row.name ?? "-", row.host, "error" in row ? row.error.message : summary(row)]),
  ]);
  const details = rows.flatMap((row) => ("changes" in row && row.changes ? [describe(row)] : []));
  return {
    value: { plans: rows, changes, failed },
    text: rows.length === 0 ? none : [table, ...details].join("\n\n"),
    ...(failed > 0 ? { exitCode: 1 } : changes ? { exitCode: 4 } : {}),
  };
}

const summary = ({ steps }: Plan): string =>
  steps.length === 0 ? "as wanted" : steps.length === 1 ? "1 step" : `${steps.length} steps`;

function describe({ name, host, steps, differences, warnings }: Plan): string {
  if (steps.length === 0) return `nothing to do: "${name}" on ${host} is as wanted`;
  const lines = steps.map(({ words }, i) => `  ${i + 1}. ${words}`);
  const told = warnings.map(({ what }) => `warning: ${what} (exitnode host check ${host} says what to do)`);
  return [
    ...told,
    ...differences.map((words) => `  ${words}`),
    `create would, for "${name}" on ${host}:`,
    ...lines,
  ].join("\n");
}
