import { asFailure, Failure } from "../kit/failure.js";
import type { Millis } from "../kit/time.js";
import { applyStep } from "./apply.js";
import { waitCoordinator } from "./applyinside.js";
import { armNext, checkNext, handOver, takeBack } from "./handover.js";
import { tunnelTrouble } from "./health.js";
import type { Save } from "./identity.js";
import type { HostRequest, ProvisionParts } from "./parts.js";
import { planSteps } from "./plan.js";
import { startContainer, stopContainer } from "./power.js";
import { place } from "./preflight.js";
import { promote } from "./rollback.js";
import { type Done, open } from "./run.js";
import { describe, dropSave, ownOf } from "./save.js";
import { connection, disconnect, lookAtHost, lookInside, type Session } from "./session.js";
import { besideSpec, makeNext, prepareNext } from "./successor.js";
import { FIRST, finishUpgrade, known } from "./upgrade.js";
import { unhealthy, type View } from "./view.js";

/**
 * A new container from a new template takes the place of the one that is there: it is made beside it, given its
 * state, and then the two change places: the old one is stopped, and the new one takes over its network card's
 * address, and with it what DHCP and the router know. The old one is there until the new one has proven itself.
 *
 * Until then the old one is the exit node and its description names the other (`next`); then one change of its
 * description makes it the one before (`previous`), so that at no moment there are two, or none.
 */
export type Replaced = Done & { readonly outageSeconds?: number };

/** What `upgrade --replace` would do. Refuses what `replace` would refuse; changes nothing. */
export async function planReplace(parts: ProvisionParts, request: HostRequest, name: string) {
  const session = await open(parts, request, { name, given: {} });
  try {
    const view = await ready(session, await known(session), { mayChange: false });
    const { template, node, storage } = await placeBeside(session, view);
    const from = template.kind === "on-host" ? template.volid : template.kind === "upload" ? template.name : "a clone";
    const { version } = await parts.payload();
    const { vmid, config } = ownOf(view);
    return {
      view,
      differences: [
        `container ${vmid} would be replaced by a new one from ${from}`,
        ...(view.inside?.agent?.version === version
          ? []
          : [`the agent is version ${view.inside?.agent?.version}, wanted ${version}`]),
      ],
      steps: [
        ...(template.kind === "upload" ? [["upload-template", `upload the template ${template.name}`] as const] : []),
        ["make-next", `make a container beside it on ${node}, its disk on ${storage}`] as const,
        ["hand-over", "hand over keys, network map and, where it runs there, the coordinator"] as const,
        ["switch", `stop container ${vmid}; the new one takes over ${config.options.net0 ?? "its network"}`] as const,
        ["check-health", "check that it works, else go back"] as const,
        ["forget-save", `remove container ${vmid}`] as const,
      ].map(([step, words]) => ({ step, words })),
    };
  } finally {
    disconnect(session);
  }
}

export async function replace(parts: ProvisionParts, request: HostRequest, name: string): Promise<Replaced> {
  const session = await open(parts, request, { name, given: {} });
  try {
    const began = await known(session);
    const { save, beside } = ownOf(began).identity;
    const committed = save?.how === "previous" || beside?.as === "next";
    const finished = save === undefined && beside === undefined ? undefined : await finishUpgrade(session, began);
    if (finished !== undefined && committed) return finished;
    return await changePlaces(session, finished?.view ?? began);
  } finally {
    disconnect(session);
  }
}

async function changePlaces(session: Session, began: View): Promise<Replaced> {
  const { parts } = session;
  const steps: { step: string; seconds: number }[] = [];
  const did = async <T>(
    step: string,
    words: string,
    act: (note: (words: string) => void) => Promise<T>,
  ): Promise<T> => {
    const before = parts.clock.now();
    const value = await parts.progress.step(words, act);
    steps.push({ step, seconds: Math.round(parts.clock.now() - before) / 1_000 });
    return value;
  };
  let old = await ready(session, began, { mayChange: true });
  const { version } = await parts.payload();
  let placement = await placeBeside(session, old);
  const { template, templateStorage } = placement;
  if (template.kind === "upload") {
    const upload = { do: "upload-template", storage: templateStorage, name: template.name } as const;
    const there = await did("upload-template", `upload the template ${template.name}`, (note) =>
      applyStep(session, { ...old, placement }, upload, note),
    );
    placement = there.placement ?? placement;
  }
  const container = ownOf(old);
  const { node, vmid } = container;
  const trouble = await tunnelTrouble(session, old).catch((error: unknown) => asFailure(error).message);
  const save: Extract<Save, { vmid: number }> = {
    how: "next",
    name: "next",
    vmid: await parts.host.nextVmid(),
    ...(trouble === undefined ? { tunnel: true } : {}),
  };
  const beside: Session = { ...session, ssh: undefined };
  let next: View;
  const stopped: { at?: Millis } = {};
  try {
    await describe(session, container, { ...container.identity, save });
    old = { ...old, container: { ...container, identity: { ...container.identity, save } } };
    next = await did("make-next", `make container ${save.vmid} beside it`, (note) =>
      makeNext(beside, old, placement, save.vmid, note),
    );
    next = await did("prepare-next", "put its files in", (note) => prepareNext(beside, next, old, note));
    await did("hand-over", "hand over keys and state", async () => {
      await handOver(await connection(session, old), await connection(beside, next), old.ownCoordinator);
      const { net0 = "", hostname = session.name } = container.config.options;
      await armNext(await connection(beside, next), net0, hostname, old.ownCoordinator);
    });
    disconnect(session);
    next = await did("switch", `stop container ${vmid}, which ${save.vmid} stands in for`, async () => {
      stopped.at = parts.clock.now();
      await stopContainer(parts, node, vmid);
      disconnect(beside);
      await parts.host.setConfig(node, save.vmid, { net0: container.config.options.net0 });
      return next;
    });
    next = await did("check-health", `check that it works in version ${version}, else go back`, (note) =>
      checkNext(beside, next, old, version, note),
    );
  } catch (error) {
    if (parts.signal.aborted) throw interrupted(session, error);
    throw await abandon(session, asFailure(error), stopped.at !== undefined);
  } finally {
    disconnect(beside);
  }
  // At most: the look that found it working took a part of it.
  const outageSeconds = Math.round(parts.clock.now() - (stopped.at ?? 0)) / 1_000;
  const view = await did("forget-save", `remove container ${vmid}`, () => settle(session, old, next, save));
  return { view, steps: steps as Done["steps"][number][], changed: true, outageSeconds };
}

/** The old one makes room in one change; whoever looks then finds the new one. */
async function settle(session: Session, old: View, next: View, save: Extract<Save, { vmid: number }>): Promise<View> {
  const seen = await lookAtHost(session, ownOf(old));
  const { save: _, ...rest } = ownOf(seen).identity;
  const net0 = ownOf(old).config.options.net0 ?? "";
  await describe(session, ownOf(seen), { ...rest, beside: { as: "previous", of: save.vmid, net0 } });
  const heir = await lookAtHost(session, ownOf(next));
  const { beside } = ownOf(heir).identity;
  if (beside === undefined) throw new Error("the new container lost its description");
  const promoted = await promote(session, { ...ownOf(heir), beside });
  const alone = await dropSave(session, { ...promoted, inside: next.inside, files: next.files });
  return { ...alone, addresses: next.addresses };
}

/** The container as it is, seen inside and working: what does not work is not replaced blindly. */
async function ready(session: Session, began: View, { mayChange }: { readonly mayChange: boolean }): Promise<View> {
  let view = mayChange ? began : await lookInside(session, began);
  while (mayChange && view.inside === undefined) {
    const step = planSteps(view).find((one) => FIRST.has(one.do));
    if (step === undefined) break;
    view = await applyStep(session, view, step, () => undefined);
  }
  const isSilent = (): boolean => view.ownCoordinator && view.inside?.coordinator === undefined;
  // A run that was broken off may have left the coordinator standing still.
  if (mayChange && view.inside !== undefined && isSilent()) {
    await takeBack(session);
    view = await waitCoordinator(session, view);
  }
  const trouble =
    view.inside === undefined
      ? "it does not run"
      : isSilent()
        ? "the coordinator in it does not answer"
        : unhealthy(view.inside);
  if (trouble === undefined) return view;
  throw new Failure("exit-node-unhealthy", `"${session.name}" does not work now, so it is not replaced: ${trouble}`, {
    advice: `exitnode repair ${session.name} --host ${session.request.hostName}`,
  });
}

async function placeBeside(session: Session, view: View) {
  const { parts, request } = session;
  const guests = await parts.host.guests();
  const spec = besideSpec(view);
  return place(parts.host, request, spec, guests, parts.appliance, parts.hostShell !== undefined);
}

/** The new one goes, the old one works as before; the Failure says why. */
async function abandon(session: Session, reason: Failure, wasStopped: boolean): Promise<Failure> {
  const { name, parts, request } = session;
  try {
    await parts.progress.step("go back to the container that was there", async () => {
      const seen = await lookAtHost(session);
      const { node, vmid } = ownOf(seen);
      // What failed may be the connection.
      disconnect(session);
      // First: both have one address.
      await dropSave(session, seen);
      if (wasStopped) await startContainer(parts, node, vmid);
      await takeBack(session);
    });
    return new Failure(
      wasStopped ? "upgrade-rolled-back" : reason.code,
      wasStopped
        ? `"${name}" is in its old container again; the replacement failed: ${reason.message}`
        : reason.message,
      { advice: reason.advice, cause: reason },
    );
  } catch (error) {
    return new Failure(
      "upgrade-unfinished",
      `replacing "${name}" failed: ${reason.message}; going back failed too: ${asFailure(error).message}`,
      { advice: `exitnode upgrade ${name} --host ${request.hostName}    (it puts things in order)`, cause: reason },
    );
  }
}

const interrupted = (session: Session, cause: unknown): Failure =>
  new Failure("interrupted", "interrupted: a replacement is under way", {
    cause,
    advice: `go back, and upgrade in place: exitnode upgrade ${session.name} --host ${session.request.hostName}`,
  });
