import * as z from "zod";
import { Failure } from "../kit/failure.js";
import { formatDuration } from "../kit/time.js";
import { parseWith } from "../wire/schema.js";
import { createdWebhook, type WebhookInfo, webhookInfo, webhookRequest, webhookTested } from "../wire/webhooks.js";
import { callCoordinator } from "./admin.js";
import type { Call, Outcome } from "./command.js";
import { renderTable } from "./table.js";

export async function addWebhook(call: Call): Promise<Outcome> {
  const { on } = call.options;
  const wanted = parseWith(
    webhookRequest,
    { url: call.args[0] ?? "", ...(on === undefined ? {} : { actions: on }) },
    "what was asked for",
    "usage",
  );
  const created = await callCoordinator(call, createdWebhook, "POST", "/webhooks", wanted);
  const text =
    `${created.secret}\n\nsigns what ${created.url} is told, as standardwebhooks.com has it; it is shown this once\n` +
    `  exitnode webhook test ${created.id}`;
  return { value: created, text };
}

export async function listWebhooks(call: Call): Promise<Outcome> {
  const { webhooks } = await callCoordinator(call, z.object({ webhooks: z.array(webhookInfo) }), "GET", "/webhooks");
  const rows = webhooks.map((one) => [one.id, one.url, one.actions.join(" "), stateOf(one)]);
  const text = rows.length === 0 ? "no webhooks" : renderTable([["ID", "URL", "ON", "STATE"], ...rows]);
  return { value: { webhooks }, text };
}

export async function testWebhook(call: Call): Promise<Outcome> {
  const id = call.args[0] ?? "";
  const tested = await callCoordinator(call, webhookTested, "POST", `/webhooks/${encodeURIComponent(id)}/test`);
  if (!tested.delivered)
    throw new Failure(
      "webhook-undelivered",
      `the test event did not arrive: ${tested.reason ?? `it was answered with HTTP ${tested.status}`}`,
      { advice: "the URL must answer a POST with a status from 200 to 299, within 10 s" },
    );
  return { value: tested, text: `it arrived within ${formatDuration(tested.tookMs)}: HTTP ${tested.status}` };
}

export async function removeWebhook(call: Call): Promise<Outcome> {
  const id = call.args[0] ?? "";
  await callCoordinator(call, z.unknown(), "DELETE", `/webhooks/${encodeURIComponent(id)}`);
  return { value: { removed: id }, text: `the webhook ${id} is told no more` };
}

function stateOf({ disabledAtMs, pending }: WebhookInfo): string {
  if (disabledAtMs !== undefined) return "given up: it did not answer";
  return pending === 0 ? "up to date" : `${pending} waiting`;
}
