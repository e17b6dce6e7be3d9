import { Failure } from "../kit/failure.js";
import type { Files } from "../sys/files.js";
import { openPostgres, type Postgres } from "../sys/postgres.js";
import type { StoreConfig } from "../wire/coordinatorconfig.js";

/** Opens what the store section of coordinator.yaml names; password and certificates are read from their files. */
export async function openPostgresStore(
  files: Files,
  want: Extract<StoreConfig, { kind: "postgres" }>,
): Promise<Postgres> {
  const { host, port, database, user, passwordFile, tls, caFile } = want;
  const password = passwordFile === undefined ? undefined : (await needed(files, passwordFile)).trim();
  const ca = caFile === undefined ? undefined : await needed(files, caFile);
  // A Unix socket leaves no machine.
  const verified = tls === "verify" && !host.startsWith("/");
  return openPostgres({
    ...{ host, port, database, user },
    ...(password === undefined ? {} : { password }),
    tls: verified ? { kind: "verify", ...(ca === undefined ? {} : { ca }) } : { kind: "off" },
  });
}

async function needed(files: Files, path: string): Promise<string> {
  const text = await files.readText(path);
  if (text !== undefined) return text;
  throw new Failure("coordinator-unconfigured", `there is no ${path}, which the store section names`, {
    advice: "put the file there, or change store: in coordinator.yaml",
  });
}
