import * as z from "zod";
import { tryEndpoint } from "../kit/endpoint.js";
import { Failure } from "../kit/failure.js";
import { type Cidr, type Ip, tryCidr, tryIp } from "../kit/ip.js";
import { type Key, tryKey } from "../kit/key.js";

/** The words that several messages share. */
export const ip = z.string().transform((text, context): Ip => tryIp(text) ?? refuse(context, "an IP address"));
export const cidr = z.string().transform((text, context): Cidr => tryCidr(text) ?? refuse(context, "a prefix"));
export const key = z
  .string()
  .transform((text, context): Key => tryKey(text) ?? refuse(context, "a 32-byte base64 key"));
export const endpoint = z
  .string()
  .transform((text, context) => tryEndpoint(text) ?? refuse(context, "an address:port"))
  .describe("address:port, an IPv6 address in brackets");

/** A DNS label (RFC 1035 §2.3.1 as relaxed by RFC 1123 §2.1), in lower case: what devices and exit nodes are called. */
export const NAME_PATTERN = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;
export const deviceName = z
  .string()
  .regex(NAME_PATTERN, "must be 1 to 63 of a-z, 0-9 and -, not starting or ending with -");

export const role = z.enum(["exit-node", "device"]);
export type Role = z.infer<typeof role>;

/** Fields that are words for people to read again, and never secrets. */
const PUBLIC_FIELDS: readonly PropertyKey[] = [
  "name",
  "role",
  "login",
  "user",
  "tags",
  "actions",
  "scopes",
  "address",
  "endpoint",
];
const QUOTED_CHARACTERS_MAX = 64;

/**
 * Parses foreign data: a Failure names the place and the expectation, and the value only of what cannot be a secret.
 */
export function parseWith<T>(schema: z.ZodType<T>, value: unknown, what: string, code = "message-invalid"): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const issues = result.error.issues.map(
    (issue) =>
      [...(issue.path.length > 0 ? [issue.path.join(".")] : []), issueWords(issue)].join(": ") +
      quoted(issue.path, value),
  );
  throw new Failure(code, `${what} is invalid: ${issues.slice(0, 8).join("; ")}`);
}

/** `, got "Lap_Top"`. */
function quoted(path: readonly PropertyKey[], whole: unknown): string {
  if (!PUBLIC_FIELDS.includes(path.findLast((step) => typeof step !== "number") ?? "")) return "";
  let value = whole;
  for (const step of path) value = typeof value === "object" && value !== null ? Reflect.get(value, step) : undefined;
  return typeof value === "string" ? `, got ${JSON.stringify(value.slice(0, QUOTED_CHARACTERS_MAX))}` : "";
}

/** What is wrong at one place, as people say it. */
export function issueWords(issue: z.core.$ZodIssue): string {
  if (issue.code === "invalid_value")
    return `expected ${issue.values.length > 1 ? "one of " : ""}${issue.values.map(String).join(", ")}`;
  if (issue.code === "invalid_type" && issue.message.endsWith("received undefined")) return "is missing";
  return issue.message.replace(/^I/, "i");
}

function refuse(context: z.RefinementCtx, expected: string): never {
  context.addIssue({ code: "custom", message: `expected ${expected}` });
  return z.NEVER;
}
