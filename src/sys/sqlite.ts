import { closeSync, openSync } from "node:fs";
import type { SqliteDatabase } from "kysely";
import Database from "libsql";
import { Failure } from "../kit/failure.js";

/** Statements kept prepared; beyond, each is made anew. */
const PREPARED_MAX = 256;
/** How long a statement waits for another process (a backup) before it fails. */
const BUSY_TIMEOUT_MS = 5_000;

/**
 * Opens (or makes) a SQLite database for kysely's SqliteDialect, in write-ahead mode, with foreign keys enforced,
 * after checking that the file is sound.
 */
export function openSqlite(path: string): SqliteDatabase {
  let database: Database.Database;
  try {
    // SQLite gives its companions (-wal, -shm) the mode of the file.
    closeSync(openSync(path, "a", 0o600));
    database = new Database(path, { timeout: BUSY_TIMEOUT_MS });
    database.pragma("journal_mode = WAL");
    // FULL: a consumed join key or a revocation must survive a power cut; there are few writes.
    database.pragma("synchronous = FULL");
    database.pragma("foreign_keys = ON");
  } catch (cause) {
    throw broken(path, cause instanceof Error ? cause.message : String(cause), cause);
  }
  const verdict = integrityOf(database);
  if (verdict !== "ok") {
    database.close();
    throw broken(path, verdict);
  }
  // kysely asks for the same texts again and again, and one at a time; to prepare one costs more than to run it.
  const prepared = new Map<string, Database.Statement>();
  return {
    close: () => database.close(),
    prepare(sql) {
      const statement = prepared.get(sql) ?? database.prepare(sql);
      if (prepared.size < PREPARED_MAX) prepared.set(sql, statement);
      return {
        reader: statement.reader,
        all: (parameters) => statement.all([...parameters]),
        run: (parameters) => statement.run([...parameters]),
        iterate: (parameters) => statement.iterate([...parameters]),
      };
    },
  };
}

function integrityOf(database: Database.Database): string {
  try {
    const rows: unknown = database.pragma("integrity_check");
    const first: unknown = Array.isArray(rows) ? rows[0] : undefined;
    return typeof first === "object" && first !== null ? String(Object.values(first)[0]) : "no answer";
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

function broken(path: string, reason: string, cause?: unknown): Failure {
  return new Failure("store-unusable", `the store ${path} cannot be used: ${reason}`, {
    advice: `restore a backup of ${path}, or move the file away to start with an empty network`,
    cause,
  });
}
