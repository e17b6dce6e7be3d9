import { basename } from "node:path";
import { type Dialect, PostgresDialect, type SqliteDatabase, SqliteDialect } from "kysely";
import { KEY_BYTES, keyBytes, keyOf, parseKey } from "../kit/key.js";
import type { Clock } from "../sys/clock.js";
import type { Files } from "../sys/files.js";
import type { Postgres } from "../sys/postgres.js";
import type { Random } from "../sys/random.js";
import type { TlsIdentity } from "../sys/tls.js";
import { COORDINATOR_FILES, type StoreConfig } from "../wire/coordinatorconfig.js";
import { ULA_RANDOM_BYTES, ulaPrefix } from "./addresses.js";
import { MIGRATIONS } from "./store/migrations.js";
import type { SettingTable } from "./store/settings.js";
import { Store } from "./store/store.js";

export type StorageParts = {
  readonly files: Files;
  readonly clock: Clock;
  readonly random: Random;
  readonly openDatabase: (path: string) => SqliteDatabase;
  /** Left out, a store in PostgreSQL is refused. */
  readonly openPostgres?: (want: Extract<StoreConfig, { kind: "postgres" }>) => Promise<Postgres>;
  readonly keepTlsIdentity: (
    files: Files,
    paths: { readonly key: string; readonly certificate: string },
    hosts: readonly string[],
    now: number,
  ) => Promise<TlsIdentity>;
};

/** Whoever has these is the coordinator. */
export type Secrets = {
  readonly noise: Uint8Array;
  readonly admission: Uint8Array;
  readonly relay: Uint8Array;
  readonly tls: TlsIdentity;
};

export type Storage = { readonly store: Store; readonly secrets: Secrets; readonly postgres: Postgres | undefined };

/** The settings that stand for files of a shared store, by the files' names. */
export const FILE_SETTING = "file:";

/** Opens the store and reads the coordinator's keys, which are made where there are none. */
export async function openStorage(
  parts: StorageParts,
  config: StoreConfig,
  folder: string,
  hosts: readonly string[],
): Promise<Storage> {
  const { files, clock, random } = parts;
  const postgres = config.kind === "postgres" ? await parts.openPostgres?.(config) : undefined;
  const dialect: Dialect =
    postgres === undefined
      ? new SqliteDialect({ database: parts.openDatabase(`${folder}/${COORDINATOR_FILES.store}`) })
      : new PostgresDialect({ pool: postgres.pool });
  const store = await Store.open(dialect, ulaPrefix(random(ULA_RANDOM_BYTES)), MIGRATIONS, clock.wall());
  const read = async (from: Files): Promise<Secrets> => ({
    noise: await keepSecret(from, `${folder}/${COORDINATOR_FILES.noiseKey}`, random),
    admission: await keepSecret(from, `${folder}/${COORDINATOR_FILES.admissionKey}`, random),
    relay: await keepSecret(from, `${folder}/${COORDINATOR_FILES.relayKey}`, random),
    tls: await parts.keepTlsIdentity(
      from,
      { key: `${folder}/${COORDINATOR_FILES.tlsKey}`, certificate: `${folder}/${COORDINATOR_FILES.tlsCertificate}` },
      hosts,
      clock.wall(),
    ),
  });
  try {
    // In one change: of two coordinators that start at once, one makes the keys and the other finds them.
    const secrets = store.shared
      ? await store.change(({ settings }) => read(filesIn(settings, files)))
      : await read(files);
    return { store, secrets, postgres };
  } catch (error) {
    await store.close();
    throw error;
  }
}

/**
 * Coordinators of one name have the same keys, and so the store that they share holds them, as readable as the rest of
 * it: whoever reads that database can stand in for the coordinator. A file that is there goes before: whoever wants
 * the keys out of the database puts the same files on every machine.
 */
function filesIn(settings: SettingTable, files: Files): Files {
  return {
    ...files,
    readText: async (path) => (await files.readText(path)) ?? settings.get(FILE_SETTING + basename(path)),
    write: (path, content) => settings.set(FILE_SETTING + basename(path), content.toString()),
  };
}

/** An identity of the coordinator's: whoever has the file has it. */
async function keepSecret(files: Files, path: string, random: Random): Promise<Uint8Array> {
  const text = await files.readText(path);
  if (text !== undefined) return keyBytes(parseKey(text.trim()));
  const secret = random(KEY_BYTES);
  await files.write(path, `${keyOf(secret)}\n`, { mode: 0o600 });
  return secret;
}
