import { Failure } from "../kit/failure.js";
import { applyStep } from "./apply.js";
import { settledOptions } from "./containerparams.js";
import type { GivenOptions } from "./identity.js";
import { Journal } from "./journal.js";
import { settleIntent } from "./observe.js";
import type { HostRequest, ProvisionParts } from "./parts.js";
import { describeStep, differencesOf, type Step, type StepName } from "./plan.js";
import { lookAtHost, type Session } from "./session.js";
import { parseName, refuseFixed } from "./spec.js";
import type { View } from "./view.js";

/** What every run shares: how it begins, how a step is done and written down, how it is broken off. */
export type Wanted = { readonly name: string; readonly given: GivenOptions };

export type Done = {
  readonly view: View;
  readonly steps: readonly { readonly step: StepName; readonly seconds: number }[];
  /** Something on the host, in the container or in the configuration was changed. */
  readonly changed: boolean;
};

/** Far above any real run; a plan that never empties is a bug, and ends here. */
export const STEPS_MAX = 40;
/** A step that is due again and again changes nothing. */
export const REPEATS_MAX = 4;
/** Steps that only look. */
export const LOOKING: ReadonlySet<StepName> = new Set([
  "look-inside",
  "wait-address",
  "wait-coordinator",
  "pin-host-key",
  "verify",
  "check-health",
]);

export async function open(parts: ProvisionParts, request: HostRequest, wanted: Wanted): Promise<Session> {
  const name = parseName(wanted.name);
  const journal = await Journal.open(parts.files, parts.journalFolder, request.hostName, name);
  return { parts, request, journal, name, given: wanted.given, ssh: undefined };
}

/** What there is: a container of ours, or one that an earlier run began. */
export async function lookFirst(session: Session): Promise<View> {
  const { parts, journal, given } = session;
  let view = await lookAtHost(session);
  const { intent } = journal;
  if (view.container === undefined && intent !== undefined) {
    const made = await settleIntent(parts.host, parts.clock, intent, { showWithinMs: 0, signal: parts.signal });
    if (made !== undefined) view = await lookAtHost(session, made);
  }
  if (view.container !== undefined) refuseFixed(session.name, given, settledOptions(view.container));
  return view;
}

/** The journal has a step before it is begun, and again once it is done. */
export async function recorded(session: Session, view: View, step: Step): Promise<View> {
  const { journal, parts } = session;
  const entry = (phase: "begin" | "done" | "failed") => ({ at: parts.clock.wall(), step: step.do, phase });
  const quiet = LOOKING.has(step.do) || step.do === "create-container";
  // A create writes down its own intent, with id and VMID; looking needs no record.
  if (!quiet) await journal.add(entry("begin"));
  const after = await parts.progress.step(describeStep(step, view), (note) => applyStep(session, view, step, note));
  if (!quiet) await journal.add(entry("done"));
  return after;
}

export function stuck(view: View, step: Step): Failure {
  const left = differencesOf(view).slice(0, 5).join("; ");
  return new Failure(
    "no-progress",
    `"${describeStep(step, view)}" is due again after it was done: ${left || "no difference is left"}`,
    {
      advice: `exitnode logs ${view.spec.name}`,
    },
  );
}
