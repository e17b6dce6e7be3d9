import type { Kysely } from "kysely";
import { toHex, utf8 } from "../../kit/bytes.js";
import { sha256 } from "../../kit/sha256.js";
import type { Millis } from "../../kit/time.js";
import type { Actor } from "../actor.js";
import type { AuditRow, Tables } from "./schema.js";

export type AuditEvent = {
  readonly at: Millis;
  readonly by: Actor;
  /** noun.verb, as in device.revoke */
  readonly action: string;
  readonly target: string;
  readonly details?: Readonly<Record<string, unknown>>;
};

/** What came before the first entry. */
export const AUDIT_ROOT = "0".repeat(64);

/** Who changed what, when and from where: appended to alone, each entry bound to all before it by its hash. */
export class AuditTable {
  readonly #db: Kysely<Tables>;

  constructor(db: Kysely<Tables>) {
    this.#db = db;
  }

  /** Inside the transaction of the change it tells of: both or neither. */
  async append({ at, by, action, target, details = {} }: AuditEvent): Promise<AuditRow> {
    const last = await this.#db
      .selectFrom("audit")
      .select(["seq", "hash"])
      .orderBy("seq", "desc")
      .limit(1)
      .executeTakeFirst();
    const entry = {
      seq: (last?.seq ?? 0) + 1,
      at_ms: at,
      actor: by.name,
      remote: by.remote,
      action,
      target,
      details: JSON.stringify(details),
    };
    const row = { ...entry, hash: auditHash(last?.hash ?? AUDIT_ROOT, entry) };
    await this.#db.insertInto("audit").values(row).execute();
    return row;
  }
}

/** SHA-256 over the hash before and the entry's fields, as a JSON array. */
export function auditHash(before: string, entry: Omit<AuditRow, "hash">): string {
  const { seq, at_ms, actor, remote, action, target, details } = entry;
  return toHex(sha256(utf8(JSON.stringify([before, seq, at_ms, actor, remote, action, target, details]))));
}
