import { Failure } from "../kit/failure.js";
import { cloneParams, createParams } from "./containerparams.js";
import { hostKeyIn } from "./hostkey.js";
import { type Identity, identityId } from "./identity.js";
import type { Intent } from "./journal.js";
import { SHOW_DEADLINE_MS, settleIntent } from "./observe.js";
import type { ProvisionParts } from "./parts.js";
import { lookAtHost, type Session } from "./session.js";
import { type OwnContainer, templateName, type View } from "./view.js";

/** Another administrator takes the id between asking for a free one and using it; twenty at once are done by then. */
const VMID_TRIES_MAX = 10;
/** How far above the next free id is looked, when that was taken again and again. */
const SPREAD_MAX = 64;
const ID_BYTES = 8;

/**
 * The one call that must not happen twice. The intent (our id and the VMID) is written down before it is sent; an
 * answer that got lost, or "exists already", is settled by looking for a container that carries that id.
 */
export async function createContainer(session: Session, view: View, note: (words: string) => void): Promise<View> {
  const { placement, spec } = view;
  if (placement === undefined) throw new Error("a container needs a place");
  const { parts, journal, request } = session;
  // An unfinished run's own id and VMID again: should its request still arrive, it makes the same container.
  const earlier = journal.intent?.node === placement.node ? journal.intent : undefined;
  const id = earlier?.id ?? identityId(parts.random(ID_BYTES));
  let vmid = spec.given.vmid ?? earlier?.vmid ?? (await parts.host.nextVmid());
  // A coordinator that was lost with its container: what is kept of it would be taken for the new one's.
  if (view.ownCoordinator && view.record === undefined && (await parts.book.record()) !== undefined)
    await parts.book.drop();
  const { template } = placement;
  const identity: Identity = {
    id,
    name: spec.name,
    given: spec.given,
    ...(template.kind === "clone" ? { hostKey: template.hostKey } : { template: templateName(placement) }),
    ...(view.ownCoordinator ? { coordinator: true } : {}),
  };
  for (let tries = 1; ; tries++) {
    const intent: Intent = { id, vmid, node: placement.node };
    await journal.add({ at: parts.clock.wall(), step: "create-container", phase: "begin", ...intent });
    try {
      const wanted = { spec, defaults: request.defaults, placement, vmid, identity };
      const upid =
        template.kind === "clone"
          ? await parts.host.clone(placement.node, template.vmid, cloneParams(wanted))
          : await parts.host.create(
              placement.node,
              createParams({
                ...wanted,
                publicKey: parts.sshKey.publicKey,
                // In the create itself only the login counts; root's shell comes afterwards.
                mayPassDevices: request.login === "root@pam",
              }),
            );
      const { log } = await parts.host.waitTask(upid, { onLog: note });
      return await seenAgain(session, view, intent, hostKeyIn(log));
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      if (error.code === "outcome-unknown" || error.code === "vmid-taken") {
        const showWithinMs = error.code === "outcome-unknown" ? SHOW_DEADLINE_MS : 0;
        const made = await settleIntent(parts.host, parts.clock, intent, { showWithinMs, signal: parts.signal });
        if (made !== undefined) return seenAgain(session, view, intent, undefined, made);
      }
      if (error.code === "vmid-taken" && spec.given.vmid !== undefined) throw vmidTaken(vmid, error);
      if (error.code !== "vmid-taken" || tries >= VMID_TRIES_MAX) throw error;
      vmid = await freeVmid(parts, tries);
    }
  }
}

/** The next free id; after more refusals, one of a growing number above it: those who all ask at once part ways. */
async function freeVmid({ host, random }: ProvisionParts, refusals: number): Promise<number> {
  const next = await host.nextVmid();
  const spread = Math.min(2 ** (refusals - 1), SPREAD_MAX);
  if (spread === 1) return next;
  const taken = new Set((await host.guests()).map(({ vmid }) => vmid));
  let vmid = next + ((random(1)[0] ?? 0) % spread);
  while (taken.has(vmid)) vmid++;
  return vmid;
}

function vmidTaken(vmid: number, cause: Failure): Failure {
  return new Failure("vmid-taken", `VMID ${vmid} is taken`, {
    advice: "choose another one, or leave --vmid out: the next free one is taken",
    cause,
  });
}

async function seenAgain(
  session: Session,
  before: View,
  intent: Intent,
  hostKey: string | undefined,
  made?: OwnContainer,
): Promise<View> {
  const { parts } = session;
  const settled = { showWithinMs: SHOW_DEADLINE_MS, signal: parts.signal };
  const container = made ?? (await settleIntent(parts.host, parts.clock, intent, settled));
  if (container === undefined)
    throw new Failure("container-unknown", `container ${intent.vmid} was made, but the host does not show it`, {
      advice: "run create again: it goes on from what it finds",
    });
  const view = await lookAtHost(session, container);
  return { ...view, placement: before.placement, hostKey: view.hostKey ?? hostKey };
}
