import { type Dialect, Kysely, PostgresDialect, sql } from "kysely";
import { Failure } from "../kit/failure.js";
import type { Millis } from "../kit/time.js";
import { COORDINATOR_FILES } from "../wire/coordinatorconfig.js";
import { COORDINATOR } from "./actor.js";
import { FILE_SETTING } from "./storage.js";
import { AuditTable } from "./store/audit.js";
import { copyTables } from "./store/copy.js";
import { LeaseTable } from "./store/leases.js";
import { migrate, migrationsIn } from "./store/migrate.js";
import { MIGRATIONS } from "./store/migrations.js";
import type { Tables } from "./store/schema.js";
import { SettingTable } from "./store/settings.js";
import { lockWriters, shareTables } from "./store/sharing.js";
import { EPOCH, epochAfter } from "./store/store.js";

/**
 * A backup is a SQLite file with the same tables as every store, whatever engine it came from, and with the
 * coordinator's keys in it: whoever has it can be the coordinator.
 */

/** The files that make the coordinator who it is, by their names in COORDINATOR_FILES. */
export const KEY_FILES = [
  COORDINATOR_FILES.noiseKey,
  COORDINATOR_FILES.admissionKey,
  COORDINATOR_FILES.relayKey,
  COORDINATOR_FILES.tlsKey,
  COORDINATOR_FILES.tlsCertificate,
] as const;

export type KeyFiles = Readonly<Partial<Record<(typeof KEY_FILES)[number], string>>>;

/** What a backup holds. */
export type BackupFacts = { readonly takenAtMs: Millis; readonly devices: number };

/** When the backup was taken: a setting in the backup alone. */
const TAKEN_AT = "backup-at";
/**
 * Added to the epoch of a restored store: above the numbers of a coordinator that was restarted so many times in the
 * hour after the backup, and more often than once an hour since.
 */
export const RESTORE_LEAP = 256;

/** Writes a snapshot into an empty file; the coordinator goes on meanwhile. */
export async function backUp(from: Dialect, to: Dialect, keys: KeyFiles, now: Millis): Promise<BackupFacts> {
  return withBoth(from, to, async (source, target) => {
    const ran: string[] = await migrationsIn(source).catch(() => []);
    if (MIGRATIONS.some(({ id }) => !ran.includes(id)) || ran.length !== MIGRATIONS.length)
      throw new Failure("store-other-version", "the store was written by another version than this one", {
        advice: "start the coordinator once with this version, then take the backup",
      });
    await migrate(target, MIGRATIONS);
    const snapshot = source.transaction();
    // Within it, PostgreSQL shows one moment; SQLite always does.
    const reading = from instanceof PostgresDialect ? snapshot.setIsolationLevel("repeatable read") : snapshot;
    await reading.execute((read) => target.transaction().execute((write) => copyTables(read, write)));
    const settings = new SettingTable(target);
    for (const [name, content] of Object.entries(keys)) await settings.set(FILE_SETTING + name, content);
    await settings.set(TAKEN_AT, String(now));
    // One file, with nothing left in a log beside it.
    await sql`pragma journal_mode = delete`.execute(target);
    return factsOf(target);
  });
}

export type Restored = BackupFacts & {
  /** What belongs into files where the store is not shared. */
  readonly keys: KeyFiles;
};

/** Replaces what the store holds by a backup, in one change. The backup may be of an older version. */
export async function restore(from: Dialect, to: Dialect, now: Millis): Promise<Restored> {
  return withBoth(from, to, async (source, target) => {
    await migrate(source, MIGRATIONS);
    const facts = await factsOf(source);
    if (facts.takenAtMs === 0)
      throw new Failure("backup-invalid", "the file is a store and no backup of one", {
        advice: "take one with: exitnode coordinator backup FILE",
      });
    const shared = to instanceof PostgresDialect;
    await migrate(target, MIGRATIONS, shared ? lockWriters : undefined);
    const keys: Record<string, string> = {};
    await target.transaction().execute(async (within) => {
      if (shared) {
        await lockWriters(within);
        await shareTables(within);
        const running = (await new LeaseTable(within, true).list("coordinator:")).filter(({ over }) => !over);
        if (running.length > 0)
          throw new Failure("coordinator-running", `${running.length} coordinators run over this store`, {
            advice: "stop them all: systemctl stop exitnode-coordinator",
          });
      }
      const settings = new SettingTable(within);
      const replaced = Number((await settings.get(EPOCH)) ?? 0);
      await copyTables(source, within);
      const last = Math.max(replaced, Number((await settings.get(EPOCH)) ?? 0));
      await settings.set(EPOCH, String(epochAfter(last, now) + RESTORE_LEAP));
      await settings.remove(TAKEN_AT);
      for (const name of KEY_FILES) {
        const content = await settings.get(FILE_SETTING + name);
        if (content === undefined) continue;
        keys[name] = content;
        // A store of one's own has its keys in files beside it.
        if (!shared) await settings.remove(FILE_SETTING + name);
      }
      const details = { takenAtMs: facts.takenAtMs };
      await new AuditTable(within).append({ at: now, by: COORDINATOR, action: "store.restore", target: "", details });
    });
    return { ...facts, keys };
  });
}

async function factsOf(db: Kysely<Tables>): Promise<BackupFacts> {
  const takenAtMs = Number((await new SettingTable(db).get(TAKEN_AT)) ?? 0);
  const { devices } = await db
    .selectFrom("device")
    .where("revoked_at_ms", "is", null)
    .select(({ fn }) => fn.countAll<number>().as("devices"))
    .executeTakeFirstOrThrow();
  return { takenAtMs, devices: Number(devices) };
}

async function withBoth<T>(
  from: Dialect,
  to: Dialect,
  work: (source: Kysely<Tables>, target: Kysely<Tables>) => Promise<T>,
): Promise<T> {
  const source = new Kysely<Tables>({ dialect: from });
  const target = new Kysely<Tables>({ dialect: to });
  try {
    return await work(source, target);
  } finally {
    await Promise.all([source.destroy(), target.destroy()]);
  }
}
