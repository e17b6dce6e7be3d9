import { Failure } from "../kit/failure.js";
import type { PveHost } from "../pve/guests.js";
import { patiently } from "./patience.js";

/**
 * Starting, stopping and removing, as the state they lead to: an earlier run that was killed, or an answer that got
 * lost, may have asked for it already, so a host that says "already so" has said that it is done.
 */
type Parts = Parameters<typeof patiently>[0] & { readonly host: PveHost };

export const startContainer = (parts: Parts, node: string, vmid: number): Promise<void> =>
  unless("container-running", () =>
    patiently(parts, async () => void (await parts.host.waitTask(await parts.host.start(node, vmid)))),
  );

export const stopContainer = (parts: Parts, node: string, vmid: number): Promise<void> =>
  unless("container-stopped", () =>
    patiently(parts, async () => void (await parts.host.waitTask(await parts.host.stop(node, vmid)))),
  );

/** How long its processes may take to end by themselves. */
const SHUTDOWN_SECONDS = 30;

/** Lets it end its processes; one that does not is stopped. */
export const shutDown = (parts: Parts, node: string, vmid: number): Promise<void> =>
  unless("container-stopped", async () => {
    await patiently(parts, async () => {
      await parts.host.waitTask(await parts.host.shutdown(node, vmid, SHUTDOWN_SECONDS));
    }).catch(async (error: unknown) => {
      if (!(error instanceof Failure) || error.code === "container-stopped") throw error;
      await stopContainer(parts, node, vmid);
    });
  });

/** Stops it if it runs, and removes it with all that Proxmox keeps for it. */
export function removeContainer(parts: Parts, node: string, vmid: number): Promise<void> {
  const { host } = parts;
  return unless("container-unknown", async () => {
    if ((await host.status(node, vmid)) === "running") await stopContainer(parts, node, vmid);
    await patiently(parts, async () => void (await host.waitTask(await host.destroy(node, vmid))));
  });
}

async function unless(done: string, act: () => Promise<void>): Promise<void> {
  await act().catch((error: unknown) => {
    if (!(error instanceof Failure) || error.code !== done) throw error;
  });
}
