import type { Kysely } from "kysely";
import * as z from "zod";
import { Failure } from "../../kit/failure.js";
import { tryJson } from "../../kit/json.js";
import type { Millis } from "../../kit/time.js";
import { AUDIT_ROOT, auditHash } from "../../wire/audit.js";
import { parseWith } from "../../wire/schema.js";
import { type Actor, COORDINATOR } from "../actor.js";
import type { AuditRow, Tables } from "./schema.js";

export type AuditEvent = {
  readonly at: Millis;
  readonly by: Actor;
  /** noun.verb, as in device.revoke */
  readonly action: string;
  readonly target: string;
  readonly details?: Readonly<Record<string, unknown>>;
};

/** Which entries are wanted; what is left out does not count. `before` and `after` are sequence numbers. */
export type AuditWant = {
  readonly before?: number | undefined;
  readonly after?: number | undefined;
  readonly since?: Millis | undefined;
  readonly until?: Millis | undefined;
  readonly actor?: string | undefined;
  readonly action?: string | undefined;
  readonly target?: string | undefined;
  readonly limit: number;
};

/** Entries kept, and how many of the oldest go at once: looking for them is then rare. At 50 changes a day: five years. */
export const AUDIT_LIMITS = { kept: 100_000, cut: 1_000 } as const;

/** The last entry that was let go: what the oldest that is left is bound to. */
export type AuditRoot = { readonly seq: number; readonly hash: string };
const ROOT_SETTING = "audit-root";
const auditRoot = z.object({ seq: z.number().int(), hash: z.string() });

/** Who changed what, when and from where: appended to alone, each entry bound to all before it by its hash. */
export class AuditTable {
  readonly #db: Kysely<Tables>;
  readonly #limits: { readonly kept: number; readonly cut: number };

  constructor(db: Kysely<Tables>, limits: { readonly kept: number; readonly cut: number } = AUDIT_LIMITS) {
    this.#db = db;
    this.#limits = limits;
  }

  /** Inside the transaction of the changes they tell of: all of it or nothing. */
  async append(...events: readonly AuditEvent[]): Promise<void> {
    const before = await this.last();
    const { kept, cut } = this.#limits;
    const seq = await this.#append(before, events);
    const step = seq - (seq % cut);
    const [event] = events;
    if (event !== undefined && step > before.seq && step > kept) await this.#cut(step - kept, event.at);
  }

  async last(): Promise<AuditRoot> {
    const row = await this.#db
      .selectFrom("audit")
      .select(["seq", "hash"])
      .orderBy("seq", "desc")
      .limit(1)
      .executeTakeFirst();
    return row ?? { seq: 0, hash: AUDIT_ROOT };
  }

  /** Newest first, or oldest first where `after` is given. */
  list({ before, after, since, until, actor, action, target, limit }: AuditWant): Promise<AuditRow[]> {
    let query = this.#db.selectFrom("audit").selectAll();
    if (before !== undefined) query = query.where("seq", "<", before);
    if (after !== undefined) query = query.where("seq", ">", after);
    if (since !== undefined) query = query.where("at_ms", ">=", since);
    if (until !== undefined) query = query.where("at_ms", "<", until);
    if (actor !== undefined) query = query.where("actor", "=", actor);
    if (target !== undefined) query = query.where("target", "=", target);
    if (action?.endsWith(".*")) query = query.where("action", "like", `${action.slice(0, -1)}%`);
    else if (action !== undefined) query = query.where("action", "=", action);
    return query
      .orderBy("seq", after === undefined ? "desc" : "asc")
      .limit(limit)
      .execute();
  }

  /** What the oldest entry that is kept is bound to. */
  async root(): Promise<AuditRoot> {
    const row = await this.#db
      .selectFrom("setting")
      .select("value")
      .where("name", "=", ROOT_SETTING)
      .executeTakeFirst();
    if (row === undefined) return { seq: 0, hash: AUDIT_ROOT };
    return parseWith(auditRoot, tryJson(row.value), `the setting ${ROOT_SETTING} in the store`, "store-unusable");
  }

  /** Returns the number of the last one. */
  async #append(before: AuditRoot, events: readonly AuditEvent[]): Promise<number> {
    const rows: AuditRow[] = [];
    let { seq, hash } = before;
    for (const { at, by, action, target, details = {} } of events) {
      const entry = {
        seq: ++seq,
        at_ms: at,
        actor: by.name,
        remote: by.remote,
        action,
        target,
        details: JSON.stringify(details),
      };
      hash = auditHash(hash, entry);
      rows.push({ ...entry, hash });
    }
    if (rows.length > 0) await this.#db.insertInto("audit").values(rows).execute();
    return seq;
  }

  /** Lets the oldest entries go, up to `seq`; that, and what they ended in, is itself an entry. */
  async #cut(seq: number, at: Millis): Promise<void> {
    const row = await this.#db.selectFrom("audit").select(["seq", "hash"]).where("seq", "=", seq).executeTakeFirst();
    if (row === undefined) throw new Failure("store-unusable", `the audit log has no entry ${seq}`);
    const root: AuditRoot = row;
    const value = JSON.stringify(root);
    await this.#db.deleteFrom("audit").where("seq", "<=", seq).execute();
    await this.#db
      .insertInto("setting")
      .values({ name: ROOT_SETTING, value })
      .onConflict((conflict) => conflict.column("name").doUpdateSet({ value }))
      .execute();
    const event = { at, by: COORDINATOR, action: "audit.cut", target: String(seq), details: root };
    await this.#append(await this.last(), [event]);
  }
}
