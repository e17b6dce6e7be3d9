import { HTTP_PORT, PVE, PVE_NODE, PVE_PORT } from "../lab/internet.js";
import { releaseLease } from "../lab/lease.js";
import { PVE_STATE_DIR, STORAGE_DIR } from "../lab/places.js";
import { serveHomeServer, serveWeb } from "../lab/web.js";
import type { Call, Outcome } from "./command.js";

/** The lab's own daemons, each started by `lab up` inside its place and ended by SIGTERM. */

const ENDED: Outcome = { value: {}, text: "" };

export async function serveWebSite({ signal }: Call): Promise<Outcome> {
  await serveWeb(HTTP_PORT, signal);
  return ENDED;
}

export async function serveNas({ signal }: Call): Promise<Outcome> {
  await serveHomeServer(HTTP_PORT, signal);
  return ENDED;
}

export async function serveProxmox({ signal, parts }: Call): Promise<Outcome> {
  const { servePve } = await import("../lab/pve/server.js");
  await servePve({
    address: PVE,
    port: PVE_PORT,
    nodeName: PVE_NODE,
    stateDir: PVE_STATE_DIR,
    storageDir: STORAGE_DIR,
    signal,
    released: (mac) => releaseLease(parts.files, mac),
  });
  return ENDED;
}
