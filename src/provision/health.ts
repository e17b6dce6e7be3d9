import type { Millis } from "../kit/time.js";
import { unlisted, untilWorks } from "./applyinside.js";
import { adminOf, lookInside, type Session } from "./session.js";
import { addressOf, unhealthy, type View } from "./view.js";

/** What a new version gets to work; going back has to be done within half a minute of traffic being lost. */
const HEALTH_WAIT_MS: Millis = 12_000;

/**
 * Whether the exit node works: its agent runs in the version wanted and is in the network, the coordinator lists it,
 * the container reaches the Internet, and a device of our own gets through the tunnel.
 */
export async function checkHealth(
  session: Session,
  view: View,
  version: string | undefined,
  note: (words: string) => void,
): Promise<View> {
  const seen = await lookInside(session, view);
  return untilWorks(session, seen, HEALTH_WAIT_MS, note, (one) => troubleOf(session, one, version));
}

async function troubleOf(session: Session, view: View, version: string | undefined): Promise<string | undefined> {
  const { inside } = view;
  const address = addressOf(view);
  if (inside === undefined || address === undefined) return "nothing was seen";
  const trouble = unhealthy(inside);
  if (trouble !== undefined) return trouble;
  const is = inside.agent?.version;
  if (version !== undefined && is !== version) return `the agent says it is version ${is}, wanted ${version}`;
  return (
    (await unlisted(session, view)) ??
    (view.container?.identity.save?.tunnel === true ? await tunnelTrouble(session, view) : undefined)
  );
}

/**
 * What a short-lived device of our own meets in the tunnel; undefined when it comes through. A network that lets this
 * machine reach only the container's SSH fails it before an upgrade as well: then it says nothing, and is not asked.
 */
export async function tunnelTrouble(session: Session, view: View): Promise<string | undefined> {
  const { tunnel } = session.parts;
  const address = addressOf(view);
  if (tunnel === undefined || address === undefined) return "it cannot be tried from here";
  const { whoami } = view.spec;
  return tunnel({ name: session.name, address, admin: await adminOf(session, view), whoami });
}
