import * as z from "zod";
import { Failure } from "../../kit/failure.js";
import { tryIp } from "../../kit/ip.js";
import { createdWebhook, webhookInfo, webhookRequest, webhookTested } from "../../wire/webhooks.js";
import { forbidden } from "../destination.js";
import { describeWebhook } from "../webhooks.js";
import { hasArrived } from "../webhooksender.js";
import type { ApiParts } from "./parts.js";
import { type Route, route } from "./route.js";

export function webhookRoutes({ webhooks, webhookSender, allowLocalWebhooks }: ApiParts): Route[] {
  return [
    route({
      method: "POST",
      path: "/webhooks",
      summary: "Tell a URL of changes; the secret that signs them is shown this once",
      scope: "webhooks:write",
      body: webhookRequest,
      answer: createdWebhook,
      async run({ body, caller, created }) {
        refuseLiteral(new URL(body.url), allowLocalWebhooks);
        const webhook = await webhooks.create(body.url, body.actions, caller);
        created();
        return { ...describeWebhook(webhook, 0), secret: webhook.secret };
      },
    }),
    route({
      method: "GET",
      path: "/webhooks",
      summary: "The webhooks, and how many events wait for each",
      scope: "webhooks:read",
      answer: z.object({ webhooks: z.array(webhookInfo) }),
      run: async () => ({ webhooks: await webhooks.list() }),
    }),
    route({
      method: "POST",
      path: "/webhooks/:id/test",
      summary: "Send a test event now; a webhook that was given up is taken up again when it arrives",
      scope: "webhooks:write",
      answer: webhookTested,
      async run({ param, caller }) {
        const webhook = await webhooks.find(param("id"));
        const posted = await webhookSender.test(webhook);
        const delivered = hasArrived(posted);
        if (delivered && webhook.disabledAtMs !== undefined) await webhooks.setDisabled(webhook.id, false, caller);
        return { ...posted, delivered };
      },
    }),
    route({
      method: "DELETE",
      path: "/webhooks/:id",
      summary: "Tell a URL no more",
      scope: "webhooks:write",
      run: async ({ param, caller }) => {
        await webhooks.remove(param("id"), caller);
        return undefined;
      },
    }),
  ];
}

/** What names resolve to is judged at each attempt; an address says at once what it is. */
function refuseLiteral(url: URL, allowLocal: boolean): void {
  const ip = tryIp(url.hostname.replace(/^\[|\]$/g, ""));
  const refusal = ip === undefined ? undefined : forbidden(url, ip, allowLocal);
  if (refusal !== undefined) throw new Failure("webhook-refused", refusal);
}
