import * as z from "zod";
import { toHex, utf8 } from "../kit/bytes.js";
import { sha256 } from "../kit/sha256.js";

/**
 * The audit log: who changed what, when and from where. Each entry is bound to all before it, so that whoever has once
 * noted the newest hash sees later whether anything before it was altered or taken out.
 */

/** As the coordinator's store has it, field by field. */
export type AuditFields = {
  readonly seq: number;
  readonly at_ms: number;
  readonly actor: string;
  readonly remote: string;
  readonly action: string;
  readonly target: string;
  readonly details: string;
};

/** What came before the first entry. */
export const AUDIT_ROOT = "0".repeat(64);

/** SHA-256 over the hash before and the entry's fields, as a JSON array. */
export function auditHash(before: string, entry: AuditFields): string {
  const { seq, at_ms, actor, remote, action, target, details } = entry;
  return toHex(sha256(utf8(JSON.stringify([before, seq, at_ms, actor, remote, action, target, details]))));
}

const hashText = z.string().regex(/^[0-9a-f]{64}$/);

/** The place in the log that a chain begins after, or ends in. */
const auditPlace = z.object({ seq: z.number().int().nonnegative(), hash: hashText });
export type AuditPlace = z.infer<typeof auditPlace>;

const auditEntry = z.object({
  seq: z.number().int(),
  atMs: z.number(),
  /** "socket", "admin-token", "token:ID", "user:ID", "device:ID" or "coordinator". */
  actor: z.string(),
  /** The address it came from; empty on the coordinator's machine. */
  remote: z.string(),
  /** noun.verb */
  action: z.string(),
  target: z.string(),
  /** JSON, as it was hashed. */
  details: z.string(),
  hash: z.string(),
});
export type AuditEntry = z.infer<typeof auditEntry>;

export const auditPage = z.object({
  entries: z.array(auditEntry),
  /** Older ones were let go; the oldest that is left follows this one. */
  root: auditPlace,
  last: auditPlace,
  next: z.string().optional(),
});
export type AuditPage = z.infer<typeof auditPage>;

/** Where a chain, continued by these entries, ends; or the first entry that is not what the one before it vouches for. */
export function followChain(
  from: AuditPlace,
  entries: readonly AuditEntry[],
): { readonly end: AuditPlace } | { readonly broken: number } {
  let end = from;
  for (const { atMs, hash, ...fields } of entries) {
    const seq = end.seq + 1;
    if (fields.seq !== seq || auditHash(end.hash, { ...fields, at_ms: atMs }) !== hash) return { broken: seq };
    end = { seq, hash };
  }
  return { end };
}
