import { asFailure, Failure } from "../kit/failure.js";
import { applyStep } from "./apply.js";
import { settledOptions } from "./containerparams.js";
import type { GivenOptions } from "./identity.js";
import { Journal } from "./journal.js";
import { settleIntent } from "./observe.js";
import { joinFailure } from "./outcome.js";
import type { HostRequest, ProvisionParts } from "./parts.js";
import { describeStep, differencesOf, planSteps, type Step, type StepName } from "./plan.js";
import { place } from "./preflight.js";
import { disconnect, lookAtHost, lookInside, type Session } from "./session.js";
import { parseName, refuseFixed } from "./spec.js";
import { undo } from "./undo.js";
import { dataPlaneOf, type View } from "./view.js";

/** observe → plan → apply, until the plan is empty. */
export type Wanted = { readonly name: string; readonly given: GivenOptions };
export type Done = {
  readonly view: View;
  readonly steps: readonly { readonly step: StepName; readonly seconds: number }[];
  /** Something on the host, in the container or in the configuration was changed. */
  readonly changed: boolean;
};
export type Planned = { readonly view: View; readonly steps: readonly Step[]; readonly differences: readonly string[] };

/** Far above any real run; a plan that never empties is a bug, and ends here. */
export const STEPS_MAX = 40;
/** A step that is due again and again changes nothing. */
export const REPEATS_MAX = 4;
/** Steps that only look. */
const LOOKING: ReadonlySet<StepName> = new Set([
  "look-inside",
  "wait-address",
  "wait-coordinator",
  "pin-host-key",
  "verify",
]);

/** What `create` would do now. Looks inside when it can; changes nothing. */
export async function plan(parts: ProvisionParts, request: HostRequest, wanted: Wanted): Promise<Planned> {
  const session = await open(parts, request, wanted);
  try {
    const view = await lookEverywhere(session, await start(session));
    const steps = planSteps(view).filter(({ do: name }) => name !== "look-inside" || view.container === undefined);
    return { view, steps, differences: differencesOf(view) };
  } finally {
    disconnect(session);
  }
}

/** Makes it so. What this run began and nobody can use is taken away when it fails; an interrupted run is gone on with. */
export async function create(parts: ProvisionParts, request: HostRequest, wanted: Wanted): Promise<Done> {
  const session = await open(parts, request, wanted);
  let view: View | undefined;
  try {
    view = await start(session);
    const steps: { step: StepName; seconds: number }[] = [];
    const repeats = new Map<StepName, number>();
    for (let step = nextStep(view); step !== undefined; step = nextStep(view)) {
      const count = (repeats.get(step.do) ?? 0) + 1;
      repeats.set(step.do, count);
      if (steps.length >= STEPS_MAX || count > REPEATS_MAX) throw stuck(view, step);
      if (step.do === "join-key" && count > 2) throw joinFailure(view);
      const before = parts.clock.now();
      view = await recorded(session, view, step);
      steps.push({ step: step.do, seconds: Math.round(parts.clock.now() - before) / 1_000 });
      await markUsable(session, view);
    }
    const changed = steps.some(({ step }) => !LOOKING.has(step));
    if (changed && steps.at(-1)?.step !== "verify") {
      const before = parts.clock.now();
      view = await recorded(session, view, { do: "verify" });
      steps.push({ step: "verify", seconds: Math.round(parts.clock.now() - before) / 1_000 });
    }
    return { view, steps, changed };
  } catch (error) {
    throw parts.signal.aborted ? interrupted(session, error) : await undo(session, asFailure(error));
  } finally {
    disconnect(session);
  }
}

async function open(parts: ProvisionParts, request: HostRequest, wanted: Wanted): Promise<Session> {
  const name = parseName(wanted.name);
  const journal = await Journal.open(parts.files, parts.journalFolder, request.hostName, name);
  return { parts, request, journal, name, given: wanted.given, ssh: undefined };
}

/** What is there: a container of ours, one that an earlier run began, or a place for a new one. */
async function start(session: Session): Promise<View> {
  const { parts, request, journal, given } = session;
  let view = await lookAtHost(session);
  const { intent } = journal;
  if (view.container === undefined && intent !== undefined) {
    const made = await settleIntent(parts.host, parts.clock, intent, { showWithinMs: 0, signal: parts.signal });
    if (made !== undefined) view = await lookAtHost(session, made);
  }
  if (view.container !== undefined) {
    refuseFixed(session.name, given, settledOptions(view.container));
    return view;
  }
  if (await isLostCoordinator(session, view)) {
    const adminTokenSha256 = undefined;
    view = { ...view, ownCoordinator: true, record: undefined, adminTokenSha256 };
  }
  const guests = await parts.host.guests();
  const placement = await place(parts.host, request, view.spec, guests, parts.appliance);
  if (!view.ownCoordinator && view.record !== undefined) await refuseKnownName(session, view);
  return { ...view, placement };
}

/** The container is gone, its coordinator with it: a new one is made. One that still answers is elsewhere, and stays. */
async function isLostCoordinator({ journal, parts }: Session, { record }: View): Promise<boolean> {
  if (record === undefined || !journal.heldCoordinator) return false;
  const admin = await parts.book.admin(record);
  return admin.devices().then(
    () => false,
    (error: unknown) => error instanceof Failure && error.code === "coordinator-unreachable",
  );
}

/** The name is free on this host; the network has other hosts. */
async function refuseKnownName(session: Session, view: View): Promise<void> {
  if (view.record === undefined) return;
  const admin = await session.parts.book.admin(view.record);
  const known = (await admin.devices()).find(({ name }) => name === view.spec.name);
  if (known === undefined || known.revokedAtMs !== undefined) return;
  throw new Failure("name-taken", `the coordinator knows a device called "${view.spec.name}" already`, {
    advice: `choose another name with --name, or, if that one is gone: exitnode destroy ${view.spec.name} --host ${session.request.hostName}`,
  });
}

async function lookEverywhere(session: Session, view: View): Promise<View> {
  return view.container?.running === true ? lookInside(session, view) : view;
}

function nextStep(view: View): Step | undefined {
  return planSteps(view)[0];
}

/** The journal has a step before it is begun, and again once it is done. */
async function recorded(session: Session, view: View, step: Step): Promise<View> {
  const { journal, parts } = session;
  const entry = (phase: "begin" | "done" | "failed") => ({ at: parts.clock.wall(), step: step.do, phase });
  const quiet = LOOKING.has(step.do) || step.do === "create-container";
  // A create writes down its own intent, with id and VMID; looking needs no record.
  if (!quiet) await journal.add(entry("begin"));
  const after = await parts.progress.step(describeStep(step, view), (note) => applyStep(session, view, step, note));
  if (!quiet) await journal.add(entry("done"));
  return after;
}

/** From here on a failure leaves the container: it can be entered and carries a data plane. */
async function markUsable(session: Session, view: View): Promise<void> {
  if (session.journal.intent === undefined || view.inside === undefined) return;
  const { kind } = dataPlaneOf(view, view.inside);
  if (kind !== "kernel" && kind !== "userspace") return;
  await session.journal.add({ at: session.parts.clock.wall(), step: "usable", phase: "done" });
}

function stuck(view: View, step: Step): Failure {
  const left = differencesOf(view).slice(0, 5).join("; ");
  return new Failure(
    "no-progress",
    `"${describeStep(step, view)}" is due again after it was done: ${left || "no difference is left"}`,
    {
      advice: `exitnode logs ${view.spec.name}`,
    },
  );
}

function interrupted(session: Session, error: unknown): Failure {
  const { intent } = session.journal;
  const left = intent === undefined ? "" : `; container ${intent.vmid} may have been made`;
  return new Failure("interrupted", `interrupted${left}`, {
    cause: error,
    advice: `go on: exitnode create --host ${session.request.hostName} --name ${session.name}\nor take it away: exitnode destroy ${session.name} --host ${session.request.hostName}`,
  });
}
