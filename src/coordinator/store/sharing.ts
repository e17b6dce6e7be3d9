import { type QueryExecutorProvider, sql } from "kysely";
import type { Tables } from "./schema.js";

/**
 * What makes one PostgreSQL good for several coordinators at once: changes happen one after the other, whoever makes
 * them, and each row that changes is named in the table `change`, in the order in which the changes last. Triggers see
 * to both, so that no statement of ours can forget it.
 */

/** One advisory lock for all changes of a store. */
const WRITER_LOCK = 0x65_78_6e_01;
/** Where coordinators are woken; what changed they read in the table. */
export const CHANGE_CHANNEL = "exitnode_change";

/** The tables of which coordinators hold copies in memory, and the column that names a row. */
const WATCHED: Readonly<Partial<Record<keyof Tables, string>>> = {
  setting: "name",
  device: "id",
  member: "id",
  api_token: "id",
  policy: "version",
  webhook: "id",
  presence: "device_id",
};
/** Columns that change all the time and that nobody decides by. */
const UNREMARKABLE = ["last_seen_at_ms", "used_at_ms"] as const;

/** Until the transaction ends, no other one changes anything. */
export async function lockWriters(within: QueryExecutorProvider): Promise<void> {
  await sql`select pg_advisory_xact_lock(${sql.lit(WRITER_LOCK)})`.execute(within);
}

/** (Re)makes the triggers: they belong to the program's version and not to the data. */
export async function shareTables(within: QueryExecutorProvider): Promise<void> {
  const plain = (row: string): string =>
    UNREMARKABLE.reduce((text, column) => `${text} - '${column}'`, `to_jsonb(${row})`);
  const statements = [
    // Before any row is locked: a statement outside of a transaction waits for its turn like all others.
    `create or replace function exitnode_take_turn() returns trigger language plpgsql as $$
      begin perform pg_advisory_xact_lock(${WRITER_LOCK}); return null; end $$`,
    `create or replace function exitnode_note_change() returns trigger language plpgsql as $$
      declare subject jsonb;
      begin
        if tg_op = 'UPDATE' then
          if ${plain("new")} = ${plain("old")} then return null; end if;
        end if;
        if tg_op = 'DELETE' then subject := to_jsonb(old); else subject := to_jsonb(new); end if;
        insert into change (seq, kind, id, at_ms) values (
          (select coalesce(max(seq), 0) + 1 from change), tg_table_name, subject ->> tg_argv[0],
          (extract(epoch from clock_timestamp()) * 1000)::bigint);
        perform pg_notify('${CHANGE_CHANNEL}', '');
        return null;
      end $$`,
    ...Object.entries(WATCHED).flatMap(([table, column]) => [
      `create or replace trigger exitnode_turn before insert or update or delete on ${table}
        for each statement execute function exitnode_take_turn()`,
      `create or replace trigger exitnode_note after insert or update or delete on ${table}
        for each row execute function exitnode_note_change('${column}')`,
    ]),
  ];
  for (const statement of statements) await sql.raw(statement).execute(within);
}
