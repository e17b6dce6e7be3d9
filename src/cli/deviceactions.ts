import * as z from "zod";
import { formatDuration, type Millis } from "../kit/time.js";
import { type DeviceInfo, deviceInfo } from "../wire/adminapi.js";
import { callCoordinator, listAll } from "./admin.js";
import type { Call, Outcome } from "./command.js";
import { ownerCell } from "./owner.js";
import { renderTable } from "./table.js";

export async function listDevices(call: Call): Promise<Outcome> {
  const devices = await listAll(call, "/devices", "devices", deviceInfo);
  const now = call.parts.clock.wall();
  const owned = devices.some((device) => ownerCell(device) !== "");
  const rows = devices.map((device) => [
    device.name,
    device.role,
    ...(owned ? [ownerCell(device)] : []),
    device.addresses[0] ?? "",
    presence(device, now),
    device.app === undefined ? device.agentVersion : `WireGuard app, through ${device.app.exit}`,
    device.routes.join(" "),
  ]);
  const header = ["NAME", "ROLE", ...(owned ? ["OWNER"] : []), "ADDRESS", "STATE", "VERSION", "ROUTES"];
  if (devices.length === 0) return { value: { devices }, text: "no devices" };
  const stale = staleApps(devices).map(({ what, advice }) => `${what}\n  → ${advice}`);
  const table = renderTable([header, ...rows]);
  return { value: { devices }, text: stale.length === 0 ? table : [table, "", ...stale].join("\n") };
}

const STALE = {
  exit: (exit: string) => `its exit node ${exit} is gone`,
  key: (exit: string) => `${exit} has another WireGuard key than it knows`,
  address: (exit: string) => `${exit} has another public address than it dials`,
} as const satisfies Record<NonNullable<NonNullable<DeviceInfo["app"]>["stale"]>, unknown>;

/** Why the configurations of WireGuard apps lead nowhere any more, and what to do. */
export function staleApps(devices: readonly DeviceInfo[]): { readonly what: string; readonly advice: string }[] {
  return devices.flatMap(({ name, app, revokedAtMs }) =>
    app?.stale === undefined || revokedAtMs !== undefined
      ? []
      : [
          {
            what: `${name}: ${STALE[app.stale](app.exit)}`,
            advice: `exitnode device remove ${name}    (then add it again)`,
          },
        ],
  );
}

export async function revokeDevice(call: Call): Promise<Outcome> {
  const name = call.args[0] ?? "";
  const device = await callCoordinator(call, deviceInfo, "POST", `/devices/${encodeURIComponent(name)}/revoke`);
  return { value: device, text: `${device.name} is shut out${receipt(device)}` };
}

export async function removeDevice(call: Call): Promise<Outcome> {
  const name = call.args[0] ?? "";
  await callCoordinator(call, z.unknown(), "DELETE", `/devices/${encodeURIComponent(name)}`);
  return { value: { removed: name }, text: `${name} is shut out and forgotten` };
}

/** Peers named in a sentence; `--json` names more. */
const NAMED_MAX = 5;

/** What a revocation has reached: peers that are offline learn of it when they come back. */
function receipt({ told }: DeviceInfo): string {
  if (told === undefined) return "";
  const { relays } = told;
  const silent = relays === undefined || relays.silent.length === 0 ? "" : ` (not yet: ${relays.silent.join(", ")})`;
  const byRelays =
    relays === undefined || relays.asked === 0
      ? ""
      : relays.asked === 1
        ? `; the relay ${relays.confirmed === 1 ? "refuses it" : "has not confirmed"}`
        : `; ${howMany(relays.confirmed, relays.asked)} relays refuse it${silent}`;
  const { unheard = 0 } = told;
  const others =
    unheard === 0 ? "" : `; ${unheard} other coordinator${unheard === 1 ? " has" : "s have"} not told of theirs`;
  if (told.peers === 0) return `; no peer is connected now${others}${byRelays}`;
  const who = howMany(told.confirmed, told.peers);
  const slowest = told.devices?.[0];
  const last = slowest === undefined || told.confirmed < 2 ? "" : ` (${slowest.name} last)`;
  const silentPeers = told.silent?.length ? `; not yet: ${told.silent.slice(0, NAMED_MAX).join(", ")}` : "";
  return `; ${who} connected peers confirmed within ${formatDuration(told.tookMs)}${last}${silentPeers}${others}${byRelays}`;
}

const howMany = (some: number, all: number): string => (some === all ? `all ${all}` : `${some} of ${all}`);

const WAITING = {
  approval: "waits for approval",
  "key-expired": "key expired",
  lock: "waits for a signature",
} as const satisfies Record<NonNullable<DeviceInfo["waiting"]>, string>;

function presence(device: DeviceInfo, now: Millis): string {
  if (device.revokedAtMs !== undefined) return "revoked";
  if (device.waiting !== undefined) return WAITING[device.waiting];
  if (device.app?.stale !== undefined) return "stale";
  if (device.online) return "online";
  return device.lastSeenAtMs === undefined ? "never seen" : `seen ${formatDuration(now - device.lastSeenAtMs)} ago`;
}
