import { Failure } from "../kit/failure.js";
import { CONTAINER_ACTIONS, type ContainerAction } from "../netconf/containerfiles.js";
import type { PveParams } from "../pve/guests.js";
import { configDifferences, type Difference, fileDifferences, runtimeDifferences } from "./drift.js";
import type { Save } from "./identity.js";
import type { Inside } from "./inside.js";
import { MODULE, waysAdvice } from "./preflight/dataplane.js";
import { onHost } from "./preflight/finding.js";
import { planStock } from "./stockpackages.js";
import { coordinatorOf, dataPlaneOf, hasSettledAddress, recordOf, unhealthy, type View } from "./view.js";

/**
 * The plan: what is left to do, from what was seen, as data. `apply` does the first step, looks again, and asks for
 * the plan anew; so a run that was killed anywhere goes on where it was, and a plan that is empty means done.
 */
export type Step =
  | { readonly do: "upload-template"; readonly storage: string; readonly name: string }
  | { readonly do: "create-container"; readonly node: string }
  | { readonly do: "pin-host-key" }
  | { readonly do: "set-config"; readonly params: PveParams; readonly words: readonly string[] }
  | { readonly do: "start-container" }
  | { readonly do: "wait-address" }
  | { readonly do: "look-inside" }
  | { readonly do: "install-packages"; readonly words: readonly string[] }
  | { readonly do: "allow-tun" }
  | { readonly do: "push-files"; readonly paths: readonly string[] }
  | { readonly do: "join-key" }
  | { readonly do: "apply"; readonly actions: readonly ContainerAction[]; readonly words: readonly string[] }
  | { readonly do: "wait-coordinator" }
  | { readonly do: "record-coordinator" }
  | { readonly do: "verify" }
  | { readonly do: "save"; readonly how: Save["how"] | undefined }
  | { readonly do: "check-health"; readonly version: string | undefined }
  | { readonly do: "roll-back"; readonly how: Save["how"] }
  | { readonly do: "promote" }
  | { readonly do: "forget-save"; readonly how: Save["how"] | undefined };
export type StepName = Step["do"];

export function planSteps(view: View): Step[] {
  const { container, placement } = view;
  if (container === undefined) {
    if (placement === undefined) throw new Error("a plan without a container needs a place for one");
    const { template, templateStorage, node } = placement;
    return [
      ...(template.kind === "upload"
        ? [{ do: "upload-template", storage: templateStorage, name: template.name } as const]
        : []),
      { do: "create-container", node },
      { do: "pin-host-key" },
      { do: "start-container" },
      { do: "wait-address" },
      ...unseen(view),
    ];
  }
  const steps: Step[] = [];
  if (view.hostKey === undefined) steps.push({ do: "pin-host-key" });
  const config = configDifferences(view);
  // The key's own step writes the description too.
  if (config.length > 0 && view.hostKey !== undefined)
    steps.push({ do: "set-config", params: paramsOf(config), words: wordsOf(config) });
  if (!container.running) steps.push({ do: "start-container" });
  if (!container.running || !hasSettledAddress(view)) return [...steps, { do: "wait-address" }, ...unseen(view)];
  if (view.inside === undefined) return [...steps, ...unseen(view)];
  return [...steps, ...planInside(view, view.inside)];
}

/** What to expect of a container nobody has looked into: everything. */
function unseen(view: View): Step[] {
  const all: Step[] = [{ do: "look-inside" }];
  // A container that works already is looked into and, most likely, left as it is.
  if (view.container !== undefined && view.hostKey !== undefined && view.container.running && hasSettledAddress(view))
    return all;
  return [
    ...all,
    { do: "push-files", paths: [] },
    { do: "apply", actions: [], words: [] },
    ...(view.ownCoordinator ? ([{ do: "wait-coordinator" }, { do: "record-coordinator" }] as const) : []),
    { do: "join-key" },
    { do: "verify" },
  ];
}

function planInside(view: View, inside: Inside): Step[] {
  const lacking = planStock(inside.stock);
  if (lacking.length > 0)
    return [
      { do: "install-packages", words: lacking.map(({ words }) => words) },
      ...unseen({ ...view, hostKey: undefined }),
    ];
  const plane = dataPlaneOf(view, inside);
  if (plane.kind === "unavailable") throw dataPlaneUnavailable(view, plane.wanted);
  if (plane.kind === "allow-tun") return [{ do: "allow-tun" }, ...unseen({ ...view, hostKey: undefined })];
  const steps: Step[] = [];
  const files = fileDifferences(view);
  const paths = files.flatMap(({ change }) => (change.kind === "file" ? [change.path] : []));
  if (paths.length > 0) steps.push({ do: "push-files", paths });
  const joining = needsJoinKey(view, inside);
  if (joining) steps.push({ do: "join-key" });
  const runtime = runtimeDifferences(view);
  const actions = inOrder([
    ...(view.files ?? []).filter(({ path }) => paths.includes(path)).flatMap(({ onChange }) => onChange),
    ...runtime.flatMap(({ change }) => (change.kind === "action" ? [change.action] : [])),
    ...inside.pending.filter(isAction),
    ...(joining ? (["agent"] as const) : []),
  ]);
  if (actions.length > 0) steps.push({ do: "apply", actions, words: wordsOf(runtime) });
  const waiting = view.ownCoordinator && inside.coordinator === undefined;
  if (waiting) steps.push({ do: "wait-coordinator" });
  if (waiting || needsRecord(view)) steps.push({ do: "record-coordinator" });
  if (waiting && !joining) steps.push({ do: "join-key" });
  if (waiting || joining || unhealthy(inside) !== undefined) steps.push({ do: "verify" });
  return steps;
}

/** Refusals that another join key mends; a revoked device stays out until somebody decides otherwise. */
const MENDED_BY_JOINING = new Set([
  ...["join-key-required", "join-key-unknown", "join-key-expired", "join-key-used"],
  "lock-differs",
]);

function needsJoinKey(view: View, inside: Inside): boolean {
  if (coordinatorOf(view) === undefined) return false;
  // A fresh key waits for the agent's restart; until then the agent still tells of the old one.
  if (inside.joinKeyWaiting && inside.pending.includes("agent")) return false;
  const refusal = inside.agent?.coordinator.refusal;
  if (refusal !== undefined && MENDED_BY_JOINING.has(refusal)) return true;
  return !inside.joined && !inside.joinKeyWaiting;
}

/** A record of another coordinator is not ours to overwrite. */
function needsRecord(view: View): boolean {
  const wanted = recordOf(view);
  if (wanted === undefined) return false;
  const { record } = view;
  if (record === undefined) return true;
  return record.publicKey === wanted.publicKey && JSON.stringify(record) !== JSON.stringify(wanted);
}

function dataPlaneUnavailable(view: View, wanted: string): Failure {
  const vmid = view.container?.vmid;
  const message =
    wanted === "userspace"
      ? "the container has no /dev/net/tun, and this login may not pass it through"
      : wanted === "kernel"
        ? "the host's kernel has no WireGuard for the container"
        : "the host's kernel has no WireGuard for the container, and this login may not pass /dev/net/tun through";
  const module = onHost(MODULE);
  // A container made by this run is about to be taken away.
  const stays = view.placement === undefined && vmid !== undefined;
  const device = stays ? `pct set ${vmid} --dev0 /dev/net/tun,mode=0666 && pct reboot ${vmid}` : undefined;
  const ways = [
    ...(wanted === "kernel" ? [module] : []),
    ...(wanted !== "kernel" && device !== undefined
      ? [...(wanted === "auto" ? [module, "or:"] : []), onHost(device)]
      : []),
    ...(wanted !== "kernel" && device === undefined ? [waysAdvice({ wanted, hostName: view.hostName })] : []),
  ];
  return new Failure("data-plane-unavailable", message, { advice: [...ways, "then run create again"].join("\n") });
}

/** One line for people, for each step. */
export function describeStep(step: Step, view: View): string {
  const name = view.spec.name;
  switch (step.do) {
    case "upload-template":
      return `upload the template ${step.name} to ${step.storage}`;
    case "create-container":
      return `create the container "${name}" on ${step.node}`;
    case "pin-host-key":
      return "pin its SSH host key from the task's log";
    case "set-config":
      return `change its configuration: ${step.words.join("; ")}`;
    case "start-container":
      return "start it";
    case "wait-address":
      return "wait for its address";
    case "look-inside":
      return "look inside";
    case "install-packages":
      return step.words.join("; ");
    case "allow-tun":
      return "pass /dev/net/tun through, and start it anew";
    case "push-files":
      return step.paths.length === 0 ? "push its files" : `push ${countOf(step.paths.length, "file")}`;
    case "join-key":
      return `let "${name}" join the network`;
    case "apply":
      return step.actions.length === 0 ? "put them into effect" : `put into effect: ${step.actions.join(", ")}`;
    case "wait-coordinator":
      return "wait for the coordinator";
    case "record-coordinator":
      return "note the coordinator in the configuration";
    case "verify":
      return "check that it works";
    case "save":
      return `keep the state of before: ${step.how === undefined ? "snapshot, backup or copy" : SAVES[step.how]}`;
    case "check-health":
      return `check that it works${step.version === undefined ? "" : ` in version ${step.version}`}, else go back`;
    case "roll-back":
      return `go back to the state of before, from ${SAVES[step.how]}`;
    case "promote":
      return `let container ${view.container?.vmid} be "${name}"`;
    case "forget-save":
      return `remove ${step.how === undefined ? "what was kept" : SAVES[step.how].replace(/^a /, "the ")}`;
  }
}

const SAVES: Record<Save["how"], string> = {
  snapshot: "a snapshot",
  backup: "a backup",
  copy: "a copy",
  next: "the container that was to take its place",
  previous: "the container whose place it took",
};

/** Everything that is not as wanted, in words; for a plan, and for the result of a run. */
export function differencesOf(view: View): string[] {
  return wordsOf([...configDifferences(view), ...fileDifferences(view), ...runtimeDifferences(view)]);
}

function inOrder(actions: readonly ContainerAction[]): ContainerAction[] {
  return CONTAINER_ACTIONS.map(({ action }) => action).filter((action) => actions.includes(action));
}

function isAction(text: string): text is ContainerAction {
  return CONTAINER_ACTIONS.some(({ action }) => action === text);
}

function paramsOf(differences: readonly Difference[]): PveParams {
  const params = differences.flatMap(({ change }) => (change.kind === "config" ? [change.params] : []));
  return Object.assign({}, ...params) as PveParams;
}

const wordsOf = (differences: readonly Difference[]): string[] => differences.map(({ words }) => words);
const countOf = (count: number, noun: string): string => `${count} ${noun}${count === 1 ? "" : "s"}`;
