import { mkdtemp, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { gunzipSync, gzipSync } from "node:zlib";
import { type Dialect, PostgresDialect, SqliteDialect } from "kysely";
import { type BackupFacts, backUp, KEY_FILES, type KeyFiles, restore } from "../coordinator/backup.js";
import { fromBase64, toBase64 } from "../kit/bytes.js";
import { Failure } from "../kit/failure.js";
import { localFiles } from "../sys/files.js";
import { openSqlite } from "../sys/sqlite.js";
import { requestUnix } from "../sys/unixhttp.js";
import { COORDINATOR_FILES } from "../wire/coordinatorconfig.js";
import { type DaemonPlaces, readCoordinatorConfig } from "./coordinatordaemon.js";
import { openPostgresStore } from "./postgresstore.js";

/** Backup and restore on the coordinator's own machine, where its store and keys are. */

/** The backup as bytes; the coordinator may run. */
export async function takeBackup(
  places: DaemonPlaces,
  now: number,
): Promise<BackupFacts & { readonly bytes: Uint8Array }> {
  const source = await storeOf(places, true);
  const keys: Record<string, string> = {};
  for (const name of KEY_FILES) {
    const content = await localFiles.readText(join(places.var, name));
    if (content !== undefined) keys[name] = content;
  }
  return withScratch(places, async (scratch) => {
    const facts = await backUp(source, fileDialect(scratch), keys as KeyFiles, now);
    const bytes = await localFiles.read(scratch);
    if (bytes === undefined) throw new Failure("backup-failed", `the backup ${scratch} is not there`);
    return { ...facts, bytes };
  });
}

/** Makes this machine's coordinator, which must not run, the one of the backup. */
export async function putBackup(places: DaemonPlaces, bytes: Uint8Array, now: number): Promise<BackupFacts> {
  await refuseRunning(places);
  return withScratch(places, async (scratch) => {
    await localFiles.write(scratch, bytes, { mode: 0o600 });
    const { keys, ...facts } = await restore(fileDialect(scratch), await storeOf(places, false), now);
    const { store } = await readCoordinatorConfig(places);
    if (store.kind === "sqlite")
      for (const [name, content] of Object.entries(keys))
        await localFiles.write(join(places.var, name), content, {
          mode: name === COORDINATOR_FILES.tlsCertificate ? 0o644 : 0o600,
        });
    return facts;
  });
}

/** As text for the way over SSH. */
export const packBackup = (bytes: Uint8Array): string => toBase64(gzipSync(bytes));

/** The bound keeps a malicious file from filling the memory. */
const BACKUP_BYTES_MAX = 512 * 1024 * 1024;

export function unpackBackup(text: string): Uint8Array {
  const packed = fromBase64(text.trim());
  if (packed === undefined) throw new Failure("backup-invalid", "expected a packed backup, got something else");
  return new Uint8Array(gunzipSync(packed, { maxOutputLength: BACKUP_BYTES_MAX }));
}

const fileDialect = (path: string): Dialect => new SqliteDialect({ database: openSqlite(path) });

async function storeOf(places: DaemonPlaces, mustBe: boolean): Promise<Dialect> {
  const { store } = await readCoordinatorConfig(places);
  if (store.kind === "postgres")
    return new PostgresDialect({ pool: (await openPostgresStore(localFiles, store)).pool });
  const path = join(places.var, COORDINATOR_FILES.store);
  if (mustBe && (await localFiles.read(path)) === undefined)
    throw new Failure("store-missing", `there is no ${path}`, { advice: "was the coordinator ever started here?" });
  return fileDialect(path);
}

/** Beside the store: the backup holds keys, and /tmp is everybody's. */
async function withScratch<T>(places: DaemonPlaces, work: (path: string) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(join(places.var, ".backup-")).catch((cause: unknown) => {
    throw new Failure("store-missing", `cannot write beside the store in ${dirname(join(places.var, "x"))}`, { cause });
  });
  try {
    return await work(join(folder, "backup.db"));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function refuseRunning({ run }: DaemonPlaces): Promise<void> {
  const socket = join(run, COORDINATOR_FILES.adminSocket);
  const answered = await requestUnix({ socket, method: "GET", path: "/healthz", timeoutMs: 2_000 }).then(
    () => true,
    () => false,
  );
  if (answered)
    throw new Failure("coordinator-running", "the coordinator runs; nothing was restored", {
      advice: "stop it first: systemctl stop exitnode-coordinator",
    });
}
