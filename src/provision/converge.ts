import { asFailure, Failure } from "../kit/failure.js";
import { joinFailure } from "./outcome.js";
import type { HostRequest, ProvisionParts } from "./parts.js";
import { differencesOf, planSteps, type Step, type StepName } from "./plan.js";
import { place } from "./preflight.js";
import { type Done, LOOKING, lookFirst, open, REPEATS_MAX, recorded, STEPS_MAX, stuck, type Wanted } from "./run.js";
import { disconnect, lookInside, type Session } from "./session.js";
import { undo } from "./undo.js";
import { finishUpgrade, planUpgrade } from "./upgrade.js";
import { dataPlaneOf, type View } from "./view.js";

/** observe → plan → apply, until the plan is empty. */
export type Planned = { readonly view: View; readonly steps: readonly Step[]; readonly differences: readonly string[] };

/** What `create` would do now. Looks inside when it can; changes nothing. */
export async function plan(parts: ProvisionParts, request: HostRequest, wanted: Wanted): Promise<Planned> {
  const session = await open(parts, request, wanted);
  try {
    const view = await lookEverywhere(session, await start(session));
    const underWay = isUpgrading(view);
    const all = underWay ? planUpgrade(view, { version: (await parts.payload()).version }) : planSteps(view);
    const steps = all.filter(({ do: name }) => name !== "look-inside" || view.container === undefined);
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
    // An upgrade that was broken off is gone on with, or goes back.
    if (isUpgrading(view)) return await finishUpgrade(session, view);
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

/** What is there: a container of ours, one that an earlier run began, or a place for a new one. */
async function start(session: Session): Promise<View> {
  const { parts, request } = session;
  let view = await lookFirst(session);
  if (view.container !== undefined) return view;
  if (await isLostCoordinator(session, view)) {
    const adminTokenSha256 = undefined;
    view = { ...view, ownCoordinator: true, record: undefined, adminTokenSha256 };
  }
  const guests = await parts.host.guests();
  const placement = await place(parts.host, request, view.spec, guests, parts.appliance, parts.hostShell !== undefined);
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

const isUpgrading = ({ container }: View): boolean =>
  container?.identity.save !== undefined || container?.identity.beside !== undefined;

function nextStep(view: View): Step | undefined {
  return planSteps(view)[0];
}

/** From here on a failure leaves the container: it can be entered and carries a data plane. */
async function markUsable(session: Session, view: View): Promise<void> {
  if (session.journal.intent === undefined || view.inside === undefined) return;
  const { kind } = dataPlaneOf(view, view.inside);
  if (kind !== "kernel" && kind !== "userspace") return;
  await session.journal.add({ at: session.parts.clock.wall(), step: "usable", phase: "done" });
}

function interrupted(session: Session, error: unknown): Failure {
  const { intent } = session.journal;
  const left = intent === undefined ? "" : `; container ${intent.vmid} may have been made`;
  return new Failure("interrupted", `interrupted${left}`, {
    cause: error,
    advice: `go on: exitnode create --host ${session.request.hostName} --name ${session.name}\nor take it away: exitnode destroy ${session.name} --host ${session.request.hostName}`,
  });
}
