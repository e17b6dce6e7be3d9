import { Failure } from "../kit/failure.js";
import { formatDuration, parseDuration } from "../kit/time.js";
import { type DeviceInfo, type DeviceRequest, deviceInfo, networkSettings } from "../wire/adminapi.js";
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
  const text = `the key of ${device.name} has ended; to use it again, on it: exitnode up --join <key>`;
  return { value: device, text };
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

export async function keyLifetime(call: Call): Promise<Outcome> {
  const [wanted] = call.args;
  const lifetime = wanted === undefined ? undefined : parseDuration(wanted);
  if (wanted !== undefined && lifetime === undefined)
    throw new Failure("usage", `expected a duration such as 90d, or 0s, got "${wanted}"`, {
      advice: "exitnode device key-lifetime 180d",
    });
  const settings =
    lifetime === undefined
      ? await callCoordinator(call, networkSettings, "GET", "/settings")
      : await callCoordinator(call, networkSettings, "PATCH", "/settings", { keyLifetimeMs: lifetime });
  const { keyLifetimeMs } = settings;
  const text =
    keyLifetimeMs === 0
      ? "the keys of people's devices do not end"
      : `the keys of people's devices end ${formatDuration(keyLifetimeMs)} after they came in`;
  return { value: settings, text };
}

function amend(call: Call, wanted: DeviceRequest): Promise<DeviceInfo> {
  return callCoordinator(call, deviceInfo, "PATCH", `/devices/${encodeURIComponent(call.args[0] ?? "")}`, wanted);
}
