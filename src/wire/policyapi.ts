import * as z from "zod";
import { cidr } from "./schema.js";

/** What the administration API says of the policy and of routes. */

/** Of a policy's text; a request's body has at most 64 KiB, in which it is a JSON string. */
export const POLICY_BYTES_MAX = 48 * 1024;

const text = z.string().max(POLICY_BYTES_MAX);

/** Version 0 is what holds without a policy. */
export const policyInfo = z.object({
  version: z.number().int(),
  text: z.string(),
  actor: z.string().optional(),
  createdAtMs: z.number().optional(),
});
export type PolicyInfo = z.infer<typeof policyInfo>;

export const policyRequest = z.strictObject({
  text,
  /** The version that this was made from: refused when there is another one by now. */
  replaces: z.number().int().nonnegative().optional(),
});

/** Without a text, the policy that holds. */
export const policyTrial = z.strictObject({ text: text.optional() });

const policyFinding = z.object({ line: z.number().int(), message: z.string() });

const policyChange = z.object({
  device: z.string(),
  at: z.string(),
  gains: z.array(z.string()),
  loses: z.array(z.string()),
});
export type PolicyChange = z.infer<typeof policyChange>;

export const policyPreview = z.object({
  /** The version it is compared with. */
  version: z.number().int(),
  tests: z.number().int(),
  /** Tests of the policy's own that fail: it cannot be saved while there are any. */
  failed: z.array(policyFinding),
  changes: z.array(policyChange),
  /** Changes beyond those that are told. */
  more: z.number().int(),
  /** False: the network is too large to be compared whole. */
  whole: z.boolean(),
});
export type PolicyPreview = z.infer<typeof policyPreview>;

export const policySaved = policyPreview.extend({ saved: z.number().int() });
export const policyRollback = z.strictObject({ to: z.number().int().positive() });
export const policyVersions = z.object({ versions: z.array(policyInfo.omit({ text: true })) });

export const routeRequest = z.strictObject({ route: cidr });
export const routeInfo = z.object({
  device: z.string(),
  route: z.string(),
  /** What lets it be used: the device's role, the policy, an administrator; undefined: it waits for one. */
  approvedBy: z.enum(["role", "policy", "administrator"]).optional(),
  /** Approved ones that the device does not offer now. */
  offered: z.boolean(),
});
export type RouteInfo = z.infer<typeof routeInfo>;
export const routeList = z.object({ routes: z.array(routeInfo) });
