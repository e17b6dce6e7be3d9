import { Failure } from "../kit/failure.js";
import { SHOW_DEADLINE_MS, settleIntent } from "./observe.js";
import { removeContainer } from "./power.js";
import type { Session } from "./session.js";

/**
 * Takes away the container that an unfinished create made, and only that: it carries the id of the intent, and no
 * run ever saw it work. Returns the failure that led here, which says what is left if this fails too.
 */
export async function undo(session: Session, failure: Failure): Promise<Failure> {
  const { parts, journal } = session;
  const { intent } = journal;
  if (intent === undefined) return failure;
  try {
    await parts.progress.step("take away what was begun", async () => {
      const showWithinMs = failure.code === "outcome-unknown" ? SHOW_DEADLINE_MS : 0;
      const made = await settleIntent(parts.host, parts.clock, intent, { showWithinMs, signal: parts.signal });
      if (made !== undefined) await removeContainer(parts, made.node, made.vmid);
    });
    await journal.add({ at: parts.clock.wall(), step: "undo", phase: "done" });
    return failure;
  } catch (error) {
    const why = error instanceof Failure ? error.message : String(error);
    const left = `container ${intent.vmid} may be left on the host (${why}): run create again to go on with it, or exitnode destroy ${session.name} --host ${session.request.hostName}`;
    return new Failure(failure.code, failure.message, {
      advice: failure.advice === undefined ? left : `${failure.advice}\n${left}`,
      cause: failure,
    });
  }
}
