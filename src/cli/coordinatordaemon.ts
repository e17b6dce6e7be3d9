import { join } from "node:path";
import * as z from "zod";
import type { Coordinator, CoordinatorPlaces, RelayBesideWant } from "../coordinator/coordinator.js";
import { Failure } from "../kit/failure.js";
import { systemClock } from "../sys/clock.js";
import { localFiles } from "../sys/files.js";
import type { Log } from "../sys/log.js";
import { systemRandom } from "../sys/random.js";
import {
  COORDINATOR_FILES,
  type CoordinatorConfig,
  coordinatorConfig,
  type StoreConfig,
} from "../wire/coordinatorconfig.js";
import { parseFile } from "./config.js";

/** The coordinator as a process: real files, sockets and database behind it. */

type PostgresStore = Extract<StoreConfig, { kind: "postgres" }>;

export type DaemonPlaces = CoordinatorPlaces & { readonly etc: string };

/** The coordinator's folders, which are not the agent's: both may run on one machine. */
export function coordinatorPlaces(env: Readonly<Record<string, string | undefined>>): DaemonPlaces {
  return {
    etc: env.EXITNODE_ETC ?? "/etc/exitnode",
    var: env.EXITNODE_VAR ?? "/var/lib/exitnode-coordinator",
    run: env.EXITNODE_RUN ?? "/run/exitnode-coordinator",
  };
}

/** What coordinator.yaml says, and in its place what the administrator's own file says. */
export async function readCoordinatorConfig(places: DaemonPlaces): Promise<CoordinatorConfig> {
  const path = join(places.etc, COORDINATOR_FILES.config);
  const text = await localFiles.readText(path);
  if (text === undefined)
    throw new Failure("coordinator-unconfigured", `there is no ${path}`, {
      advice: "exitnode serve --url https://<how devices reach this machine>",
    });
  const config = parseFile(path, text, coordinatorConfig);
  const ownPath = join(places.etc, COORDINATOR_FILES.ownConfig);
  const own = await localFiles.readText(ownPath);
  if (own === undefined) return config;
  const sections = z.record(z.string(), z.unknown());
  const written = parseFile(path, text, sections);
  return parseFile(ownPath, own, sections.transform((mine) => ({ ...written, ...mine })).pipe(coordinatorConfig));
}

export async function openCoordinator(places: DaemonPlaces, version: string, log?: Log): Promise<Coordinator> {
  const config = await readCoordinatorConfig(places);
  // Read here and not above: `coordinator.js call` needs neither the database nor the servers.
  const { startCoordinator } = await import("../coordinator/coordinator.js");
  const { serveHttps, serveUnix } = await import("../sys/httpserver.js");
  const { openSqlite } = await import("../sys/sqlite.js");
  const { openPostgresStore } = await import("./postgresstore.js");
  const { keepTlsIdentity } = await import("../sys/tls.js");
  const { openHttps } = await import("../sys/https.js");
  const { webPost } = await import("../sys/webpost.js");
  const { openRelayBeside } = await import("./relaybeside.js");
  const parts = {
    files: localFiles,
    clock: systemClock,
    random: systemRandom,
    openDatabase: openSqlite,
    openPostgres: (want: PostgresStore) => openPostgresStore(localFiles, want),
    keepTlsIdentity,
    serveHttps,
    serveUnix,
    post: webPost,
    https: openHttps(),
    openRelay: (want: RelayBesideWant) => openRelayBeside(want, log),
    version,
    ...(log === undefined ? {} : { log }),
  };
  return startCoordinator(parts, config, places);
}
