import { Failure } from "../../kit/failure.js";
import type { Log } from "../../sys/log.js";

/** The statuses of failures; one that is not here is ours to mend, and 500. */
const STATUS: Readonly<Record<string, number>> = {
  "message-invalid": 400,
  "token-refused": 401,
  "scope-missing": 403,
  "csrf-refused": 403,
  "sign-in-refused": 403,
  "sign-in-stray": 403,
  "passkey-refused": 403,
  "sign-in-unknown": 404,
  "invite-unknown": 404,
  "not-found": 404,
  "device-unknown": 404,
  "key-unknown": 404,
  "relay-unknown": 404,
  "name-unknown": 404,
  "user-unknown": 404,
  "webhook-unknown": 404,
  "token-unknown": 404,
  "policy-unknown": 404,
  "method-unknown": 405,
  "login-taken": 409,
  "users-full": 409,
  "passkeys-unavailable": 409,
  "tokens-full": 409,
  "device-revoked": 409,
  "device-never-expires": 409,
  "keys-full": 409,
  "relays-full": 409,
  "names-full": 409,
  "lock-changed": 409,
  "lock-off": 409,
  "lock-key-unknown": 409,
  "relay-configured": 409,
  "webhooks-full": 409,
  "name-taken": 409,
  "key-taken": 409,
  "devices-full": 409,
  "exit-unknown": 404,
  "exit-unsaid": 409,
  "endpoint-unknown": 409,
  "policy-denies": 409,
  "request-unsettled": 409,
  "route-of-network": 409,
  "routes-full": 409,
  "policy-changed": 412,
  "message-too-long": 413,
  "media-type-unsupported": 415,
  "policy-invalid": 422,
  "policy-tests-failed": 422,
  "webhook-refused": 422,
  "lock-invalid": 422,
  "lock-signature-refused": 422,
  "lock-secret-refused": 422,
  "idempotency-key-reused": 422,
  "too-many-attempts": 429,
  "too-many-requests": 429,
  "provider-unreachable": 503,
  "store-unavailable": 503,
};

export const PROBLEM_TYPE = "application/problem+json";

/** RFC 9110 §11.6.1 and §10.2.3: what a 401, a 429 and a 503 tell besides. */
const HEADERS: Readonly<Record<number, Readonly<Record<string, string>>>> = {
  401: { "www-authenticate": 'Bearer realm="exitnode"' },
  429: { "retry-after": "5" },
  503: { "retry-after": "5" },
};

export const statusOf = ({ code }: Failure): number => STATUS[code] ?? 500;

/** RFC 9457 §3; what we did not foresee says nothing of our inside. */
export function problem(path: string, failure: Failure, log: Log | undefined): Response {
  const status = statusOf(failure);
  if (status === 500) log?.error("request failed", { path, code: failure.code, reason: failure.message });
  const { code, message, advice } =
    status === 500 && failure.code === "internal"
      ? new Failure("internal", "the coordinator failed; its log says why")
      : failure;
  const body = { type: "about:blank", status, title: code, detail: message, code, ...(advice ? { advice } : {}) };
  return Response.json(body, { status, headers: { ...HEADERS[status], "content-type": PROBLEM_TYPE } });
}
