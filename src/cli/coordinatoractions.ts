import * as z from "zod";
import { Failure } from "../kit/failure.js";
import { formatDuration } from "../kit/time.js";
import { coordinatorStatus } from "../wire/adminapi.js";
import { callCoordinator } from "./admin.js";
import type { Call, Outcome } from "./command.js";
import { readConfig, readCredentials, writeConfig, writeCredentials } from "./config.js";
import { formatBytes, renderTable } from "./table.js";

export async function status(call: Call): Promise<Outcome> {
  const found = await callCoordinator(call, coordinatorStatus, "GET", "/status");
  const text = renderTable([
    ["version", found.version],
    ["devices", `${found.online} of ${found.devices} online`],
    ["running for", formatDuration(call.parts.clock.wall() - found.startedAtMs)],
    ["reached at", found.urls.join(" ")],
    ["public key", found.publicKey],
    ["certificate", found.tlsFingerprint],
    ["admission key", found.admissionKey ?? "none: an older version runs there"],
    ["relays", `${found.relays} in the map`],
    ["calls", `${found.forwardedCalls} handed on, ${formatBytes(found.forwardedCallBytes)}`],
  ]);
  return { value: found, text };
}

/** As the coordinator that runs has it. */
export async function openApi(call: Call): Promise<Outcome> {
  const document = await callCoordinator(call, z.record(z.string(), z.unknown()), "GET", "/openapi.json");
  return { value: document, text: JSON.stringify(document, null, 2) };
}

/** The devices of that network keep working from their last map, but nobody administers them from here any more. */
export async function forget({ options, parts, signal }: Call): Promise<Outcome> {
  const { files, paths } = parts;
  const { coordinator, ...config } = await readConfig(files, paths.config);
  if (coordinator === undefined) return { value: { forgotten: null }, text: "the config names no coordinator" };
  const where = coordinator.urls[0] ?? "";
  const confirm = async (question: string) =>
    (await import("../sys/prompt.js")).terminalPrompt(signal).confirm(question);
  if (options.yes !== true && !(parts.interactive && (await confirm(`forget the coordinator at ${where}?`))))
    throw new Failure("confirmation-needed", `this forgets the coordinator at ${where} and its admin token`, {
      advice: "exitnode coordinator forget --yes",
    });
  const { coordinator: _token, ...credentials } = await readCredentials(files, paths.config);
  await writeConfig(files, paths.config, config);
  await writeCredentials(files, paths.config, credentials);
  return { value: { forgotten: where }, text: `the coordinator at ${where} is forgotten` };
}
