import { Failure } from "../kit/failure.js";
import { applyStep } from "./apply.js";
import { applyActions, pushChanged } from "./applyinside.js";
import { createParams, settledOptions } from "./containerparams.js";
import { fileDifferences } from "./drift.js";
import { hostKeyIn } from "./hostkey.js";
import { type GivenOptions, type Identity, identityId } from "./identity.js";
import { hostKeyFromTasks, readContainer } from "./observe.js";
import { wantedFiles } from "./payload.js";
import { describe, ownOf } from "./save.js";
import { settleTasks } from "./saved.js";
import { lookAtHost, type Session } from "./session.js";
import { DEFAULTS, type ExitNodeSpec } from "./spec.js";
import { coordinatorOf, fileInputsOf, type Placement, templateName, type View } from "./view.js";

/** The container that is to take the place of another: made beside it, with every file, and with no daemon running. */

const SUFFIX = "-next";
const HOSTNAME_MAX = 63;
const ID_BYTES = 8;

/** As the one that is there, but for its name, its number and a fixed address: that is still in use. */
export function besideSpec(view: View): ExitNodeSpec {
  const { name } = view.spec;
  const { vmid: _, template: __, gateway: ___, gateway6: ____, ...kept } = view.spec.given;
  const { pveNode, storage, bridge, vlan, disk, ip6 } = settledOptions(ownOf(view));
  const given: GivenOptions = {
    ...kept,
    pveNode: String(pveNode),
    storage: String(storage),
    ip: DEFAULTS.ip,
    ip6: ip6 === "none" || ip6 === "dhcp" ? ip6 : DEFAULTS.ip6,
    ...(bridge === undefined ? {} : { bridge: String(bridge) }),
    ...(vlan === undefined ? {} : { vlan: Number(vlan) }),
    ...(disk === undefined ? {} : { disk: Number(disk) }),
  };
  return { ...view.spec, name: `${name.slice(0, HOSTNAME_MAX - SUFFIX.length)}${SUFFIX}`, given };
}

/** Makes it, starts it, and looks into it. */
export async function makeNext(
  session: Session,
  old: View,
  placement: Placement,
  vmid: number,
  note: (words: string) => void,
): Promise<View> {
  const { parts, request } = session;
  const { host } = parts;
  if (placement.template.kind === "clone")
    throw new Failure("replace-unsupported", "there is no template to make a new container from", {
      advice: "exitnode appliance build",
    });
  const before = ownOf(old);
  const { save: _, hostKey: __, ...kept } = before.identity;
  const identity: Identity = {
    ...kept,
    template: templateName(placement),
    id: identityId(parts.random(ID_BYTES)),
    beside: { as: "next", of: before.vmid, net0: before.config.options.net0 ?? "" },
  };
  const params = createParams({
    spec: besideSpec(old),
    defaults: request.defaults,
    placement,
    vmid,
    identity,
    publicKey: parts.sshKey.publicKey,
    mayPassDevices: request.login === "root@pam",
  });
  const log = await host
    .create(placement.node, { ...params, onboot: false })
    .then((upid) => host.waitTask(upid, { onLog: note }))
    .then(
      (done) => done.log,
      async (error: unknown) => {
        if (!(error instanceof Failure) || error.code !== "outcome-unknown") throw error;
        await settleTasks(host, placement.node, vmid);
        return [];
      },
    );
  const container = await readContainer(host, placement.node, vmid);
  if (container?.identity.id !== identity.id)
    throw new Failure("container-unknown", `container ${vmid} was asked for, but the host does not show it`, {
      advice: "run it again: it takes the next free number",
    });
  const hostKey = hostKeyIn(log) ?? (await hostKeyFromTasks(host, container.node, container.vmid));
  if (hostKey === undefined)
    throw new Failure("host-key-unknown", `the log of the task that made container ${vmid} cannot be read`, {
      advice: "run it again, with the login that may read its own tasks",
    });
  await describe(session, container, { ...container.identity, hostKey });
  let view = await lookAtHost(session, container);
  for (const step of ["start-container", "wait-address", "look-inside"] as const)
    view = await applyStep(session, view, { do: step }, note);
  return view;
}

/** Every file it will need at the other's address, put into effect; its daemons are set to start, and do not. */
export async function prepareNext(
  session: Session,
  next: View,
  old: View,
  note: (words: string) => void,
): Promise<View> {
  const { inside } = next;
  if (inside === undefined || old.inside === undefined) throw new Error("both are looked into first");
  // Coordinator and public address are those of the place it will have.
  const placed: View = {
    ...next,
    addresses: old.addresses,
    inside: { ...inside, coordinator: old.inside.coordinator, egress: old.inside.egress },
  };
  const inputs = fileInputsOf(placed);
  if (inputs === undefined || coordinatorOf(placed) === undefined)
    throw new Failure("data-plane-unavailable", "the new container has no data plane of the kind wanted", {
      advice: `see what stands in the way: exitnode plan --name ${session.name}-next`,
    });
  const files = wantedFiles(await session.parts.payload(), inputs, session.parts.sha256);
  const ready: View = { ...next, files };
  const paths = fileDifferences(ready).flatMap(({ change }) => (change.kind === "file" ? [change.path] : []));
  note(`${paths.length} files`);
  const pushed = await pushChanged(session, ready, paths);
  const actions = files.flatMap(({ onChange }) => onChange);
  await applyActions(
    session,
    pushed,
    actions.filter((action) => action !== "agent" && action !== "coordinator"),
  );
  return pushed;
}
