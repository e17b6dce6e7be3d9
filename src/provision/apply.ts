import { unreachable } from "../kit/assert.js";
import { Failure } from "../kit/failure.js";
import type { Millis } from "../kit/time.js";
import { createContainer } from "./applycreate.js";
import { applyActions, joinKey, pushChanged, verify, waitCoordinator } from "./applyinside.js";
import { checkHealth } from "./health.js";
import { addressesOf } from "./observe.js";
import { patiently } from "./patience.js";
import type { Step } from "./plan.js";
import { shutDown, startContainer } from "./power.js";
import { promote, rollBack } from "./rollback.js";
import { dropSave, makeSave } from "./save.js";
import { connection, disconnect, findHostKey, lookAtHost, lookInside, type Session } from "./session.js";
import { explainStockFailure, parseStock, planStock } from "./stockpackages.js";
import { passTun } from "./tun.js";
import { hasSettledAddress, type OwnContainer, recordOf, type View } from "./view.js";

export type Note = (words: string) => void;

/** DHCP and router advertisements take seconds; a busy network two minutes at most. */
export const ADDRESS_WAIT_MS: Millis = 90_000;
const ADDRESS_POLL_MS: Millis = 300;
/** An IPv6 address comes at once, the DHCP answer a little later; a network without IPv4 is believed after this. */
const IPV4_WAIT_MS: Millis = 20_000;

/** Does one step and returns what is known afterwards; whatever it changed is looked at again. */
export async function applyStep(session: Session, view: View, step: Step, note: Note): Promise<View> {
  const { host } = session.parts;
  if (step.do === "upload-template") return uploadTemplate(session, view, note);
  if (step.do === "create-container") return createContainer(session, view, note);
  const container = view.container;
  if (container === undefined) throw new Error(`${step.do} without a container`);
  switch (step.do) {
    case "pin-host-key":
      // The description learns it in the next change of the configuration, which the plan then holds.
      return { ...view, hostKey: await findHostKey(session, container) };
    case "set-config": {
      await patiently(session.parts, () =>
        host.setConfig(container.node, container.vmid, { ...step.params, digest: container.config.digest }),
      );
      return keepInside(view, await lookAtHost(session, container));
    }
    case "start-container": {
      await startContainer(session.parts, container.node, container.vmid);
      const seen = await lookAtHost(session, container);
      return { ...seen, placement: view.placement, hostKey: seen.hostKey ?? view.hostKey, awaitsIpv4: true };
    }
    case "wait-address":
      return waitAddress(session, view, container);
    case "look-inside":
      return lookInside(session, view);
    case "install-packages":
      return installPackages(session, view, note);
    case "allow-tun":
      return allowTun(session, view, container);
    case "push-files":
      return pushChanged(session, view, step.paths);
    case "join-key":
      return joinKey(session, view);
    case "apply":
      await applyActions(session, view, step.actions);
      return lookInside(session, view);
    case "wait-coordinator":
      return waitCoordinator(session, view);
    case "record-coordinator": {
      const record = recordOf(view);
      if (record === undefined) throw new Error("nothing to record");
      await session.parts.book.keep(record);
      return { ...view, record };
    }
    case "verify":
      return verify(session, view, note);
    case "save":
      return makeSave(session, view, note);
    case "check-health":
      return checkHealth(session, view, step.version, note);
    case "roll-back":
      return rollBack(session, view, note);
    case "promote": {
      const { beside } = container.identity;
      if (beside === undefined) throw new Error("only one that stands beside can take a place");
      return promote(session, { ...container, beside });
    }
    case "forget-save":
      return dropSave(session, view);
    default:
      return unreachable(step);
  }
}

/** What was seen inside stays true when only the host's side was looked at anew. */
function keepInside(before: View, after: View): View {
  const { placement, inside, files, awaitsIpv4 } = before;
  return { ...after, placement, hostKey: after.hostKey ?? before.hostKey, inside, files, awaitsIpv4 };
}

async function uploadTemplate(session: Session, view: View, note: Note): Promise<View> {
  const { placement } = view;
  const appliance = await session.parts.appliance();
  if (placement === undefined || appliance === undefined) throw new Error("no template to upload");
  const { host, signal } = session.parts;
  const volume = await host.upload(placement.node, placement.templateStorage, appliance, {
    signal,
    onProgress: (sent) => note(`${Math.round((100 * sent) / appliance.sizeBytes)} %`),
  });
  return { ...view, placement: { ...placement, template: { kind: "on-host", volid: volume.volid } } };
}

async function waitAddress(session: Session, view: View, container: OwnContainer): Promise<View> {
  const { clock, host, signal } = session.parts;
  const startedAt = clock.now();
  for (;;) {
    const seen: View = { ...view, addresses: await addressesOf(host, container) };
    const waited = clock.now() - startedAt;
    const settled = { ...seen, awaitsIpv4: waited < IPV4_WAIT_MS };
    if (hasSettledAddress(settled)) return { ...settled, awaitsIpv4: false };
    if (waited >= ADDRESS_WAIT_MS)
      throw new Failure(
        "address-missing",
        `container ${container.vmid} has no address after ${ADDRESS_WAIT_MS / 1_000} s on ${container.config.options.net0 ?? "no network"}`,
        {
          advice:
            "is there a DHCP server on that bridge (and VLAN)? otherwise give an address: --ip 192.168.1.5/24 --gateway 192.168.1.1",
        },
      );
    await clock.sleep(ADDRESS_POLL_MS, signal);
  }
}

/** Another template than ours: Debian's packages come from its archive. */
async function installPackages(session: Session, view: View, note: Note): Promise<View> {
  const ssh = await connection(session, view);
  for (const step of planStock(view.inside?.stock ?? parseStock([]))) {
    note(step.words);
    const { argv, env, timeoutMs } = step;
    const ran = await ssh.run(argv, { env, timeoutMs, signal: session.parts.signal });
    if (ran.exitCode !== 0) throw explainStockFailure(step, session.name, `${ran.stdout}\n${ran.stderr}`);
  }
  return lookInside(session, view);
}

/** A new device is visible after a start; hot-plugging it works only on newer hosts. */
async function allowTun(session: Session, view: View, container: OwnContainer): Promise<View> {
  await passTun(session, container);
  disconnect(session);
  await shutDown(session.parts, container.node, container.vmid);
  await startContainer(session.parts, container.node, container.vmid);
  const seen = await lookAtHost(session, container);
  const reachable = await waitAddress(session, { ...seen, hostKey: seen.hostKey ?? view.hostKey }, container);
  await connection(session, reachable);
  return lookInside(session, reachable);
}
