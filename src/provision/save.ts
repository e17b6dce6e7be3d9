import { asFailure, Failure } from "../kit/failure.js";
import { missing, needsForSave, refused } from "../pve/permissions.js";
import { tunnelTrouble } from "./health.js";
import { type Identity, identityId, type Save, writeIdentity } from "./identity.js";
import { patiently } from "./patience.js";
import { removeContainer, shutDown, startContainer } from "./power.js";
import { saveWith } from "./preflight/storage.js";
import { backupsOf, isSaved, settleTasks } from "./saved.js";
import { disconnect, lookAtHost, type Session } from "./session.js";
import type { OwnContainer, View } from "./view.js";

/**
 * The state of before an upgrade, to go back to: a snapshot where the storage can make one, else a backup, else a
 * copy. The description names it before it is made and until it is gone, so that whoever runs the next command sees
 * that an upgrade is under way, and no request is ever sent twice.
 */

const NAME_BYTES = 4;
const COPY_SUFFIX = "-before";
const HOSTNAME_MAX = 63;

/** How this container's state would be kept. Refuses before anything is changed what the login may not do. */
export async function chooseSave({ parts, request }: Session, { node, vmid, identity, config }: OwnContainer) {
  const { host } = parts;
  const rootStorage = config.options.rootfs?.split(":")[0] ?? "";
  const canSnapshot = await host.canSnapshot(node, vmid);
  const { how, backupStorage } = saveWith(canSnapshot ? [] : await host.storages(node), canSnapshot);
  const needs = needsForSave(how, { pool: identity.given.pool, rootStorage, backupStorage });
  const lacking = missing(await host.permissions(needs.map(({ path }) => path)), needs);
  if (lacking.length > 0) throw refused(request.login, lacking);
  return { how, storage: backupStorage ?? rootStorage };
}

export async function makeSave(session: Session, view: View, note: (words: string) => void): Promise<View> {
  const { parts } = session;
  const { host } = parts;
  const container = ownOf(view);
  const { node, vmid } = container;
  const save = container.identity.save ?? (await newSave(session, view, note));
  if (container.identity.save === undefined) await describe(session, container, { ...container.identity, save });
  const marked: OwnContainer = { ...container, identity: { ...container.identity, save } };
  try {
    await patiently(parts, async () => {
      const upid = await request(session, marked, save);
      await host.waitTask(upid, { onLog: note });
    });
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    await settleTasks(host, node, vmid);
    if (!(await isSaved(host, marked))) throw error;
  }
  // A copy is made of a container that stands still.
  if (save.how === "copy") await startContainer(parts, node, vmid);
  const seen = await lookAtHost(session, container);
  if (!seen.isSaved)
    throw new Failure("save-missing", `the ${save.how} of container ${vmid} was made, but the host does not show it`, {
      advice: `run it again: exitnode upgrade ${session.name}`,
    });
  return save.how === "copy" ? { ...seen, awaitsIpv4: true } : { ...seen, inside: view.inside, files: view.files };
}

async function newSave(session: Session, view: View, note: (words: string) => void): Promise<Save> {
  const { parts } = session;
  const { how, storage } = await chooseSave(session, ownOf(view));
  const trouble = await tunnelTrouble(session, view).catch((error: unknown) => asFailure(error).message);
  if (trouble !== undefined) note(`will not be tried through the tunnel: ${trouble}`);
  const name = `exitnode-${identityId(parts.random(NAME_BYTES))}`;
  const kept = { name, ...(trouble === undefined ? { tunnel: true } : {}) };
  if (how === "snapshot") return { how, ...kept };
  if (how === "backup") return { how, ...kept, storage };
  return { how, ...kept, vmid: await parts.host.nextVmid() };
}

async function request(session: Session, container: OwnContainer, save: Save) {
  const { parts } = session;
  const { host } = parts;
  const { node, vmid, identity, config } = container;
  switch (save.how) {
    case "snapshot":
      return host.snapshot(node, vmid, save.name, `before the upgrade of exit node ${identity.name}`);
    case "backup":
      return host.backup(node, vmid, save.storage, {
        mode: "suspend",
        notes: `${save.name}: before the upgrade of exit node ${identity.name}`,
      });
    case "copy": {
      disconnect(session);
      await shutDown(parts, node, vmid);
      const { save: _, ...rest } = identity;
      const beside = { as: "copy" as const, of: vmid, net0: config.options.net0 ?? "" };
      return host.clone(node, vmid, {
        newid: save.vmid,
        full: true,
        hostname: `${identity.name.slice(0, HOSTNAME_MAX - COPY_SUFFIX.length)}${COPY_SUFFIX}`,
        description: writeIdentity("", { ...rest, beside }),
      });
    }
    default:
      throw new Error(`a ${save.how} container is not made to go back to`);
  }
}

/** Removes it, and then what the description says of it; what is gone already counts as removed. */
export async function dropSave(session: Session, view: View): Promise<View> {
  const container = ownOf(view);
  const { save, ...identity } = container.identity;
  if (save === undefined) return view;
  await removeSave(session, container, save);
  await describe(session, (await freshly(session, container)) ?? container, identity);
  const seen = await lookAtHost(session, container);
  return { ...seen, inside: view.inside, files: view.files, hostKey: seen.hostKey ?? view.hostKey };
}

/** Every volume and container that was made to go back to. */
export async function removeSave(
  { parts }: Pick<Session, "parts">,
  container: OwnContainer,
  save: Save,
): Promise<void> {
  const { host } = parts;
  const { node, vmid } = container;
  if (!(await isSaved(host, container))) await settleTasks(host, node, vmid);
  if (save.how === "backup") {
    for (const volid of await backupsOf(host, node, vmid, save))
      await host.waitTask(await host.deleteVolume(node, save.storage, volid));
    return;
  }
  if (save.how !== "snapshot") await settleTasks(host, node, save.vmid);
  if (!(await isSaved(host, container))) return;
  if (save.how !== "snapshot") return removeContainer(parts, node, save.vmid);
  await patiently(parts, async () => void (await host.waitTask(await host.deleteSnapshot(node, vmid, save.name))));
}

async function freshly({ parts }: Session, container: OwnContainer): Promise<OwnContainer | undefined> {
  const config = await parts.host.config(container.node, container.vmid);
  return config === undefined ? undefined : { ...container, config };
}

/** Writes down what a container is; refused when somebody else changed it meanwhile. */
export async function describe({ parts }: Session, container: OwnContainer, identity: Identity): Promise<void> {
  const { node, vmid, config } = container;
  const description = writeIdentity(config.description, identity);
  await patiently(parts, () => parts.host.setConfig(node, vmid, { description, digest: config.digest }));
}

export function ownOf({ container }: View): OwnContainer {
  if (container === undefined) throw new Error("there is no container");
  return container;
}
