import { Failure } from "../kit/failure.js";
import { type Identity, TAG, writeIdentity } from "./identity.js";
import { type BesideContainer, readContainer } from "./observe.js";
import { patiently } from "./patience.js";
import { removeContainer, stopContainer } from "./power.js";
import { ownOf } from "./save.js";
import { backupsOf, settleTasks } from "./saved.js";
import { disconnect, lookAtHost, type Session } from "./session.js";
import type { OwnContainer, View } from "./view.js";

/** The container as it was before the upgrade, stopped: starting it is the plan's next step. */
export async function rollBack(session: Session, view: View, note: (words: string) => void): Promise<View> {
  const { parts } = session;
  const container = ownOf(view);
  const { node, vmid, identity, config } = container;
  const { save } = identity;
  if (save === undefined) throw new Error("nothing to go back to");
  disconnect(session);
  switch (save.how) {
    case "snapshot":
      // Proxmox stops it first.
      await settled(session, container, () => parts.host.rollback(node, vmid, save.name, false), {
        isDone: async () => (await parts.host.status(node, vmid)) === "stopped",
        note,
      });
      return backAgain(session, container);
    case "backup": {
      await stopContainer(parts, node, vmid);
      const [backup] = await backupsOf(parts.host, node, vmid, save);
      if (backup === undefined) throw new Error("nothing to go back to");
      const storage = config.options.rootfs?.split(":")[0] ?? "";
      await settled(session, container, () => parts.host.restore(node, { vmid, backup, storage, force: true }), {
        // A restore puts a new volume in the place of the old one.
        isDone: async () => (await parts.host.config(node, vmid))?.options.rootfs !== config.options.rootfs,
        note,
      });
      return backAgain(session, container);
    }
    case "copy": {
      const copy = await readContainer(parts.host, node, save.vmid);
      if (copy?.identity.beside === undefined) throw new Error("nothing to go back to");
      await removeContainer(parts, node, vmid);
      return promote(session, { ...copy, beside: copy.identity.beside });
    }
    default:
      throw new Error(`nothing is gone back to in a ${save.how} container`);
  }
}

/** Makes the one beside the exit node itself: its name, its place in the network, its line in the description. */
export async function promote(session: Session, { node, vmid, identity, beside, config }: BesideContainer) {
  const { parts } = session;
  const { beside: _, ...own }: Identity = identity;
  // The one before it goes last.
  const save: Identity["save"] =
    beside.as === "next" ? { how: "previous", name: "previous", vmid: beside.of } : undefined;
  await patiently(parts, () =>
    parts.host.setConfig(node, vmid, {
      hostname: identity.name,
      ...(config.options.net0 === beside.net0 ? {} : { net0: beside.net0 }),
      onboot: true,
      tags: [...new Set([...config.tags, TAG])].sort().join(";"),
      description: writeIdentity(config.description, save === undefined ? own : { ...own, save }),
      digest: config.digest,
    }),
  );
  const container = await readContainer(parts.host, node, vmid);
  if (container === undefined) throw new Error("the container that was promoted is not there");
  return backAgain(session, container);
}

async function backAgain(session: Session, container: OwnContainer): Promise<View> {
  const seen = await lookAtHost(session, container);
  return { ...seen, awaitsIpv4: true };
}

/** Asked for once. When the answer got lost, what became of it is looked at. */
async function settled(
  { parts }: Session,
  { node, vmid }: OwnContainer,
  ask: () => ReturnType<Session["parts"]["host"]["rollback"]>,
  { isDone, note }: { readonly isDone: () => Promise<boolean>; readonly note: (words: string) => void },
): Promise<void> {
  try {
    await patiently(parts, async () => void (await parts.host.waitTask(await ask(), { onLog: note })));
  } catch (error) {
    if (!(error instanceof Failure) || error.code !== "outcome-unknown") throw error;
    await settleTasks(parts.host, node, vmid);
    if (!(await isDone())) throw error;
  }
}
