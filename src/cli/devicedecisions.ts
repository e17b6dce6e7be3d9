import { Failure } from "../kit/failure.js";
import { formatDuration, parseDuration } from "../kit/time.js";
import { type DeviceInfo, type DeviceRequest, deviceInfo, deviceRequest, networkSettings } from "../wire/adminapi.js";
import { parseWith } from "../wire/schema.js";
import { callCoordinator } from "./admin.js";
import type { Call, Outcome } from "./command.js";

export async function approveDevice(call: Call): Promise<Outcome> {
  const path = `/devices/${encodeURIComponent(call.args[0] ?? "")}/approve`;
  const device = await callCoordinator(call, deviceInfo, "POST", path);
  return { value: device, text: `${device.name} is approved` };
}

export async function renameDevice(call: Call): Promise<Outcome> {
  const device = await amend(call, { name: call.args[1] ?? "" });
  return { value: device, text: `${call.args[0]} is called ${device.name} now` };
}

export async function tagDevice(call: Call): Promise<Outcome> {
  const tags = (call.args[1] ?? "").split(/[\s,]+/).filter((tag) => tag !== "");
  const device = await amend(call, { tags: tags.map((tag) => tag.replace(/^tag:/, "")) });
  const words = device.tags.map((tag) => `tag:${tag}`).join(", ");
  return { value: device, text: words === "" ? `${device.name} has no tags` : `${device.name} acts as ${words}` };
}

export async function expireDevice(call: Call): Promise<Outcome> {
  const device = await amend(call, { key: "expires-now" });
  const again =
    device.app === undefined
      ? "to use it again, on it: exitnode up --join <key>"
      : `to let it in again: exitnode device never-expire ${device.name}`;
  return { value: device, text: `the key of ${device.name} has ended; ${again}` };
}

export async function neverExpireDevice(call: Call): Promise<Outcome> {
  const device = await amend(call, { key: "never-expires" });
  return { value: device, text: `the key of ${device.name} lasts until it is revoked` };
}

export async function approval(call: Call): Promise<Outcome> {
  const wanted = call.args[0];
  if (wanted !== undefined && wanted !== "on" && wanted !== "off")
    throw new Failure("usage", `expected on or off, got "${wanted}"`, { advice: "exitnode device approval on" });
  const settings =
    wanted === undefined
      ? await callCoordinator(call, networkSettings, "GET", "/settings")
      : await callCoordinator(call, networkSettings, "PATCH", "/settings", { approvalRequired: wanted === "on" });
  const text = settings.approvalRequired
    ? "on: a new device waits for: exitnode device approve <device>"
    : "off: whoever has a join key or signs in is in";
  return { value: settings, text };
}

export const keyLifetime = (call: Call): Promise<Outcome> =>
  period(call, "keyLifetimeMs", "exitnode device key-lifetime 180d", (time) =>
    time === undefined
      ? "the keys of people's devices do not end"
      : `the keys of people's devices end ${time} after they came in`,
  );

export const keyRotation = (call: Call): Promise<Outcome> =>
  period(call, "keyRotationMs", "exitnode device key-rotation 90d", (time) =>
    time === undefined
      ? "no device makes itself a new WireGuard key; on one: exitnode rotate"
      : `every device makes itself a new WireGuard key within ${time}; ${KEPT}`,
  );

export const exitKeyLifetime = (call: Call): Promise<Outcome> =>
  period(call, "exitKeyLifetimeMs", "exitnode device exit-key-lifetime 30d", (time) =>
    time === undefined
      ? "the WireGuard keys of exit nodes do not end"
      : `an exit node's WireGuard key ends after ${time}, and it makes itself a new one in half of that; ${KEPT}`,
  );

/** Nobody could tell an app. */
const KEPT = "an exit node that WireGuard apps know by its key keeps it";

/** Shows a setting of the network that is a time, or changes it; `0s` is none. */
async function period(
  call: Call,
  setting: "keyLifetimeMs" | "keyRotationMs" | "exitKeyLifetimeMs",
  example: string,
  say: (time: string | undefined) => string,
): Promise<Outcome> {
  const [wanted] = call.args;
  const duration = wanted === undefined ? undefined : parseDuration(wanted);
  if (wanted !== undefined && duration === undefined)
    throw new Failure("usage", `expected a duration such as 90d, or 0s, got "${wanted}"`, { advice: example });
  const settings =
    duration === undefined
      ? await callCoordinator(call, networkSettings, "GET", "/settings")
      : await callCoordinator(call, networkSettings, "PATCH", "/settings", { [setting]: duration });
  const now = settings[setting];
  return { value: settings, text: say(now === 0 ? undefined : formatDuration(now)) };
}

async function amend(call: Call, wanted: DeviceRequest): Promise<DeviceInfo> {
  const request = parseWith(deviceRequest, wanted, "what was asked for", "usage");
  return callCoordinator(call, deviceInfo, "PATCH", `/devices/${encodeURIComponent(call.args[0] ?? "")}`, request);
}
