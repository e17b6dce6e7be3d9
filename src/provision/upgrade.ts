import { asFailure, Failure } from "../kit/failure.js";
import { joinFailure } from "./outcome.js";
import type { HostRequest, ProvisionParts } from "./parts.js";
import { differencesOf, planSteps, type Step, type StepName } from "./plan.js";
import { type Done, LOOKING, lookFirst, open, REPEATS_MAX, recorded, STEPS_MAX, stuck } from "./run.js";
import { chooseSave, ownOf } from "./save.js";
import { settleTasks } from "./saved.js";
import { disconnect, lookAtHost, lookInside, type Session } from "./session.js";
import { unhealthy, type View } from "./view.js";

/**
 * An exit node gets the files and the agent of this program: the state of before is kept, what differs is pushed, the
 * exit node is tried, and what was kept is removed; or else it is gone back to.
 */
export type Upgrading = { readonly version: string; readonly checked?: boolean };

/** Steps that make it possible to look; nothing of the old state is lost by them. */
export const FIRST: ReadonlySet<StepName> = new Set(["pin-host-key", "start-container", "wait-address", "look-inside"]);

/** What is left of an upgrade. What changes anything comes after the save, and the check after all of it. */
export function planUpgrade(view: View, { version, checked = false }: Upgrading): Step[] {
  const { save, beside } = ownOf(view).identity;
  if (beside !== undefined) return [{ do: "promote" }];
  const steps = planSteps(view).filter((step) => step.do !== "verify");
  const first = steps.filter((step) => FIRST.has(step.do));
  const changes = steps.filter((step) => !FIRST.has(step.do));
  const check: Step = { do: "check-health", version };
  const forget: Step = { do: "forget-save", how: save?.how };
  // Of a replacement that was broken off: the one that has no place goes first, for both have one address.
  if (save?.how === "next" || save?.how === "previous") return [forget];
  if (changes.length === 0 && !view.isSaved && view.inside !== undefined)
    return save === undefined ? [...first, ...(isWell(view, version) ? [] : [check])] : [...first, forget];
  return [
    ...first,
    ...(view.isSaved ? [] : [{ do: "save", how: save?.how } as const]),
    ...changes,
    ...(checked && changes.length === 0 ? [] : [check]),
    forget,
  ];
}

const isWell = (view: View, version: string): boolean =>
  view.inside !== undefined && unhealthy(view.inside) === undefined && view.inside.agent?.version === version;

export type PlannedUpgrade = {
  readonly view: View;
  readonly steps: readonly Step[];
  readonly differences: readonly string[];
};

/** What `upgrade` would do, and how it would keep the state of before. Changes nothing. */
export async function planUpgradeOf(
  parts: ProvisionParts,
  request: HostRequest,
  name: string,
): Promise<PlannedUpgrade> {
  const session = await open(parts, request, { name, given: {} });
  try {
    const view = await known(session);
    const seen = view.container?.running === true ? await lookInside(session, view) : view;
    const { version } = await parts.payload();
    const planned = planUpgrade(seen, { version });
    const saves = planned.some((step) => step.do === "save") && ownOf(view).identity.save === undefined;
    const how = saves ? (await chooseSave(session, ownOf(view))).how : ownOf(view).identity.save?.how;
    const steps = planned.map((step) => (step.do === "save" || step.do === "forget-save" ? { ...step, how } : step));
    const words = [...versionWords(seen, version), ...(await templateWords(parts, seen)), ...differencesOf(seen)];
    return { view: seen, steps, differences: words };
  } finally {
    disconnect(session);
  }
}

function versionWords({ inside }: View, version: string): string[] {
  const is = inside?.agent?.version;
  return is === undefined || is === version ? [] : [`the agent is version ${is}, wanted ${version}`];
}

/** The system in the container is upgraded by Debian's own means; a newer template is taken by a new container. */
async function templateWords({ appliance }: ProvisionParts, { container }: View): Promise<string[]> {
  const is = container?.identity.template;
  const newest = (await appliance())?.name;
  if (is === undefined || newest === undefined || is === newest) return [];
  return [`it was made from the template ${is}; to get ${newest}: exitnode upgrade --replace`];
}

/** Upgrades, or goes on with an upgrade that was broken off. A version that does not work does not stay. */
export async function upgrade(parts: ProvisionParts, request: HostRequest, name: string): Promise<Done> {
  const session = await open(parts, request, { name, given: {} });
  try {
    return await finishUpgrade(session, await known(session));
  } finally {
    disconnect(session);
  }
}

/** The exit node of that name, or a Failure. */
export async function known(session: Session): Promise<View> {
  const view = await lookFirst(session);
  if (view.container !== undefined) return view;
  throw unknownExitNode(session.name, session.request.hostName);
}

export const unknownExitNode = (name: string, host: string): Failure =>
  new Failure("exit-node-unknown", `there is no exit node "${name}" on ${host}`, { advice: "exitnode list" });

/** Does what is left of an upgrade, or goes back. */
export async function finishUpgrade(session: Session, began: View): Promise<Done> {
  const { parts } = session;
  const { version } = await parts.payload();
  const steps: { step: StepName; seconds: number }[] = [];
  const repeats = new Map<StepName, number>();
  let view = await settled(session, began);
  // Files may have been pushed by the run that was broken off.
  let touched = view.isSaved;
  let checked = false;
  const next = (): Step | undefined => planUpgrade(view, { version, checked })[0];
  for (let step = next(); step !== undefined; step = next()) {
    const before = parts.clock.now();
    try {
      step = bounded(view, step, repeats, { total: steps.length, version });
      touched ||= view.isSaved && !FIRST.has(step.do) && step.do !== "forget-save";
      view = await recorded(session, view, step);
      checked = step.do === "check-health" || (checked && LOOKING.has(step.do));
    } catch (error) {
      if (parts.signal.aborted) throw interrupted(session, error);
      if (step.do === "forget-save") throw error;
      throw touched ? await goBack(session, view, asFailure(error)) : await giveUp(session, view, asFailure(error));
    }
    // Nothing to go back to, and nothing of this upgrade was done.
    if (step.do === "forget-save") touched = false;
    steps.push({ step: step.do, seconds: Math.round(parts.clock.now() - before) / 1_000 });
  }
  return { view, steps, changed: steps.some(({ step }) => !LOOKING.has(step)) };
}

/** What an earlier run asked for may still be going on. */
async function settled(session: Session, view: View): Promise<View> {
  const container = ownOf(view);
  if (container.identity.save === undefined) return view;
  await settleTasks(session.parts.host, container.node, container.vmid);
  return lookAtHost(session, container);
}

/** A service that does not come up is due again and again: then its health decides, which says why. */
function bounded(
  view: View,
  step: Step,
  repeats: Map<StepName, number>,
  { total, version }: { readonly total: number; readonly version: string },
): Step {
  const count = (repeats.get(step.do) ?? 0) + 1;
  repeats.set(step.do, count);
  if (step.do === "join-key" && count > 2) throw joinFailure(view);
  if (step.do === "apply" && count === 3) return { do: "check-health", version };
  if (total >= STEPS_MAX || count > REPEATS_MAX) throw stuck(view, step);
  return step;
}

/** The state of before again, working as far as it did; the Failure says why. */
async function goBack(session: Session, seen: View, reason: Failure): Promise<Failure> {
  const { name, parts } = session;
  try {
    let view = await settled(session, await lookAtHost(session, ownOf(seen)));
    const { save } = ownOf(view).identity;
    if (save === undefined || !view.isSaved) throw new Failure("save-missing", "what was kept is not there");
    view = await recorded(session, view, { do: "roll-back", how: save.how });
    for (const step of ["start-container", "wait-address", "look-inside"] as const)
      view = await recorded(session, view, { do: step });
    const before = await recorded(session, view, { do: "check-health", version: undefined }).catch(asFailure);
    const { version } = view.inside?.agent ?? {};
    await recorded(session, view, { do: "forget-save", how: save.how });
    const state = before instanceof Failure ? `, which does not work either: ${before.message}` : "";
    return new Failure(
      "upgrade-rolled-back",
      `"${name}" is as it was before${version === undefined ? "" : `, version ${version}`}${state}; the upgrade failed: ${reason.message}`,
      { advice: `see what it said: exitnode logs ${name}`, cause: reason },
    );
  } catch (error) {
    if (parts.signal.aborted) return interrupted(session, error);
    return new Failure(
      "upgrade-unfinished",
      `the upgrade of "${name}" failed: ${reason.message}; going back failed too: ${asFailure(error).message}`,
      { advice: `${again(session)}    (it goes on, or goes back)`, cause: reason },
    );
  }
}

/** Nothing was changed yet: what was kept goes, as far as the host lets it. */
async function giveUp(session: Session, seen: View, reason: Failure): Promise<Failure> {
  const left = await lookAtHost(session, ownOf(seen))
    .then((view) => settled(session, view))
    .then(async (view) => {
      const { save } = ownOf(view).identity;
      if (save !== undefined) await recorded(session, view, { do: "forget-save", how: save.how });
    })
    .then(() => undefined, asFailure);
  if (left === undefined) return reason;
  return new Failure(reason.code, reason.message, {
    advice: `${reason.advice === undefined ? "" : `${reason.advice}\n`}then ${again(session)}`,
    cause: reason,
  });
}

const again = ({ name, request }: Session): string => `exitnode upgrade ${name} --host ${request.hostName}`;

const interrupted = (session: Session, cause: unknown): Failure =>
  new Failure("interrupted", "interrupted: an upgrade is under way", {
    cause,
    advice: `go on, or go back: ${again(session)}`,
  });
