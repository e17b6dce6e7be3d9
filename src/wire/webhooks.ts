import * as z from "zod";
import { fromBase64, toBase64, utf8 } from "../kit/bytes.js";
import { hmacSha256 } from "../kit/sha256.js";

/**
 * Webhooks: every entry of the audit log that one asks for is POSTed to its URL as JSON, signed as the Standard
 * Webhooks specification has it, so that its libraries verify ours:
 *
 *   webhook-id: e12-w0123…         the same on every attempt: a receiver that has seen it ignores it
 *   webhook-timestamp: 1700000000  seconds; a receiver refuses old ones
 *   webhook-signature: v1,BASE64   HMAC-SHA-256 over id.timestamp.body with the bytes after whsec_
 */
export const WEBHOOKS_MAX = 32;
export const WEBHOOK_SECRET_BYTES = 32;
const SECRET_PREFIX = "whsec_";

/** "*", "device.*" or "device.revoke". */
const actionPattern = z
  .string()
  .max(64)
  .regex(/^(\*|[a-z][a-z-]*\.(\*|[a-z][a-z-]*))$/, 'must be "*", "device.*" or one action such as "device.revoke"');

export const matchesAction = (pattern: string, action: string): boolean =>
  pattern === "*" || pattern === action || (pattern.endsWith(".*") && action.startsWith(pattern.slice(0, -1)));

export const webhookRequest = z.strictObject({
  /** https; http only to a private address. What it resolves to is judged at each attempt. */
  url: z
    .url({ protocol: /^https?$/ })
    .max(1_024)
    .refine((url) => !/^[^/]*\/\/[^/]*@/.test(url), "must hold no user name and no password"),
  actions: z.array(actionPattern).min(1).max(32).default(["*"]),
});

export const webhookInfo = z.object({
  id: z.string(),
  /** Without its path, which often is a secret. */
  url: z.string(),
  actions: z.array(z.string()),
  createdAtMs: z.number(),
  /** Nothing is sent any more: it failed for too long. A test that succeeds takes it up again. */
  disabledAtMs: z.number().optional(),
  /** Events that have not got there yet. */
  pending: z.number().int(),
});
export type WebhookInfo = z.infer<typeof webhookInfo>;

/** The secret is shown this once. */
export const createdWebhook = webhookInfo.extend({ secret: z.string() });

/** What became of one attempt. */
export const webhookTested = z.object({
  delivered: z.boolean(),
  /** Of the answer. */
  status: z.number().int().optional(),
  /** Why there was none. */
  reason: z.string().optional(),
  tookMs: z.number(),
});

export const webhookSecret = (random: Uint8Array): string => SECRET_PREFIX + toBase64(random);

export function webhookHeaders(secret: string, id: string, atMs: number, body: string): Record<string, string> {
  const timestamp = String(Math.floor(atMs / 1_000));
  return {
    "content-type": "application/json",
    "webhook-id": id,
    "webhook-timestamp": timestamp,
    "webhook-signature": `v1,${signWebhook(secret, id, timestamp, body)}`,
  };
}

function signWebhook(secret: string, id: string, timestamp: string, body: string): string {
  const key = fromBase64(secret.slice(SECRET_PREFIX.length)) ?? new Uint8Array(0);
  return toBase64(hmacSha256(key, utf8(`${id}.${timestamp}.${body}`)));
}
