import { Failure } from "../../kit/failure.js";
import type { Log } from "../../sys/log.js";

/** The statuses of failures; one that is not here is ours to mend, and 500. */
const STATUS: Readonly<Record<string, number>> = {
  "message-invalid": 400,
  "token-refused": 401,
  "scope-missing": 403,
  "not-found": 404,
  "device-unknown": 404,
  "key-unknown": 404,
  "relay-unknown": 404,
  "user-unknown": 404,
  "webhook-unknown": 404,
  "keys-full": 409,
  "relays-full": 409,
  "relay-configured": 409,
  "name-taken": 409,
  "message-too-long": 413,
  "policy-invalid": 422,
  "too-many-attempts": 429,
};

/** RFC 9457 §3; what we did not foresee says nothing of our inside. */
export function problem(path: string, failure: Failure, log: Log | undefined): Response {
  const status = STATUS[failure.code] ?? 500;
  if (status === 500) log?.error("request failed", { path, reason: failure.message });
  const { code, message, advice } =
    status === 500 && failure.code === "internal"
      ? new Failure("internal", "the coordinator failed; its log says why")
      : failure;
  const body = { type: "about:blank", status, title: code, detail: message, code, ...(advice ? { advice } : {}) };
  return Response.json(body, { status, headers: { "content-type": "application/problem+json" } });
}
