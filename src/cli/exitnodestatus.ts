import * as z from "zod";
import { Failure } from "../kit/failure.js";
import { formatDuration } from "../kit/time.js";
import { type DeviceInfo, deviceInfo } from "../wire/adminapi.js";
import { callCoordinator } from "./admin.js";
import type { Call, Outcome } from "./command.js";
import { renderTable } from "./table.js";

/** The exit nodes as the coordinator sees them; one of them with all that is known of it. */
export async function exitNodeStatus(call: Call, name: string | undefined): Promise<Outcome> {
  const { devices } = await callCoordinator(call, z.object({ devices: z.array(deviceInfo) }), "GET", "/devices");
  const exits = devices.filter(({ role }) => role === "exit-node");
  const now = call.parts.clock.wall();
  if (name === undefined) {
    const rows = exits.map((exit) => [exit.name, presence(exit, now), exit.routes.join(" "), exit.endpoints[0] ?? ""]);
    const others = devices.length - exits.length;
    const table = renderTable([["EXIT NODE", "STATE", "ROUTES", "ENDPOINT"], ...rows]);
    const text =
      exits.length === 0
        ? "no exit node has joined yet"
        : `${table}\n\n${others} other device${others === 1 ? "" : "s"}`;
    return { value: { exitNodes: exits, devices: devices.length }, text };
  }
  const exit = devices.find((device) => device.name === name);
  if (exit === undefined) {
    const known = exits.map((one) => one.name).join(", ") || "none";
    throw new Failure("exit-unknown", `the coordinator knows no device "${name}"; exit nodes: ${known}`, {
      advice: "exitnode list      (the containers on your hosts)",
    });
  }
  const text = renderTable([
    ["name", `${exit.name} (${exit.role})`],
    ["state", presence(exit, now)],
    ["addresses", exit.addresses.join(", ")],
    ["routes", exit.routes.join(", ") || "none"],
    ["endpoints", exit.endpoints.join(", ") || "none known: it has to call"],
    ["agent", exit.agentVersion],
    ["key", exit.publicKey],
  ]);
  return { value: exit, text };
}

function presence(device: DeviceInfo, now: number): string {
  if (device.revokedAtMs !== undefined) return "revoked";
  if (device.online) return "online";
  return device.lastSeenAtMs === undefined ? "never seen" : `offline for ${formatDuration(now - device.lastSeenAtMs)}`;
}
