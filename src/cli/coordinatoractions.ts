import { formatDuration } from "../kit/time.js";
import { coordinatorStatus } from "../wire/adminapi.js";
import { callCoordinator } from "./admin.js";
import type { Call, Outcome } from "./command.js";
import { renderTable } from "./table.js";

export async function status(call: Call): Promise<Outcome> {
  const found = await callCoordinator(call, coordinatorStatus, "GET", "/status");
  const text = renderTable([
    ["version", found.version],
    ["devices", `${found.online} of ${found.devices} online`],
    ["running for", formatDuration(call.parts.clock.wall() - found.startedAtMs)],
    ["reached at", found.urls.join(" ")],
    ["public key", found.publicKey],
    ["certificate", found.tlsFingerprint],
  ]);
  return { value: found, text };
}
