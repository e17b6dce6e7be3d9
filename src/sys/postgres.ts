import type { PostgresCursor, PostgresPool, PostgresPoolClient, PostgresQueryResult } from "kysely";
import pg from "pg";
import { Failure } from "../kit/failure.js";
import { type Millis, SECOND } from "../kit/time.js";

export type PostgresWant = {
  /** A name, an address, or the folder of a Unix socket. */
  readonly host: string;
  readonly port: number;
  readonly database: string;
  readonly user: string;
  readonly password?: string;
  /** `ca`: PEM of who may have signed the server's certificate, instead of the public ones. */
  readonly tls: { readonly kind: "off" } | { readonly kind: "verify"; readonly ca?: string };
};

export interface Postgres {
  /** For kysely's PostgresDialect, which also ends it. */
  readonly pool: PostgresPool;
  /**
   * Hears what is said on the channels, over a connection of its own that is made again whenever it breaks. `up` is
   * called each time it stands: what was said before then went unheard. The function returned ends it.
   */
  listen(hear: Readonly<Record<string, (payload: string) => void>>, up: () => void): () => Promise<void>;
  /** PostgreSQL takes payloads of less than 8,000 bytes. */
  notify(channel: string, payload: string): Promise<void>;
}

const POOL_MAX = 8;
const CONNECT_TIMEOUT_MS: Millis = 5 * SECOND;
/** Waiting for another coordinator's change included. */
const STATEMENT_TIMEOUT_MS: Millis = 10 * SECOND;
/** A coordinator that is frozen in the middle of a change must not hold up the others. */
const IDLE_TRANSACTION_TIMEOUT_MS: Millis = 5 * SECOND;
/** A server that has gone away without a word is noticed by a statement's missing answer. */
const ANSWER_TIMEOUT_MS: Millis = 15 * SECOND;
const RELISTEN_MIN_MS: Millis = 100;
const RELISTEN_MAX_MS: Millis = 5 * SECOND;
/** A connection that only listens notices a dead server by being asked. */
const LISTENER_PROBE_MS: Millis = 10 * SECOND;
/** The oid of bigint. */
const INT8 = 20;

export function openPostgres(want: PostgresWant): Postgres {
  const { host, port, database, user, password, tls } = want;
  const config: pg.PoolConfig = {
    ...{ host, port, database, user },
    ...(password === undefined ? {} : { password }),
    ssl: tls.kind === "off" ? false : { rejectUnauthorized: true, ...(tls.ca === undefined ? {} : { ca: tls.ca }) },
    application_name: "exitnode coordinator",
    keepAlive: true,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    statement_timeout: STATEMENT_TIMEOUT_MS,
    idle_in_transaction_session_timeout: IDLE_TRANSACTION_TIMEOUT_MS,
    query_timeout: ANSWER_TIMEOUT_MS,
    // Our bigints are milliseconds, sequence numbers and counts, all below 2⁵³.
    types: { getTypeParser: (oid, format) => (oid === INT8 ? Number : pg.types.getTypeParser(oid, format)) },
  };
  const pool = new pg.Pool({ ...config, max: POOL_MAX });
  pool.on("error", () => undefined); // an idle connection has ended: the next statement makes another
  // One that is in use says it to its statement; unheard, the event would end the process.
  pool.on("connect", (client) => client.on("error", () => undefined));
  const away = (error: unknown): Failure =>
    new Failure(
      "store-unavailable",
      `the database "${database}" at ${host}:${port} cannot be used by "${user}": ${reasonOf(error)}`,
      { advice: "see that PostgreSQL runs there, then the store section of coordinator.yaml", cause: error },
    );
  return {
    pool: {
      connect: () =>
        pool.connect().then(lend, (error: unknown) => {
          throw away(error);
        }),
      end: () => pool.end(),
    },
    listen: (hear, up) => listenForEver(config, hear, up),
    async notify(channel, payload) {
      await pool.query("select pg_notify($1, $2)", [channel, payload]);
    },
  };
}

/**
 * A connection is not lent again after a failure that is more than its statement's: the server's last word on it may
 * come as a statement's answer, a moment before its end, and an answer that came too late would be the next one's.
 */
function lend(client: pg.PoolClient): PostgresPoolClient {
  let broken = false;
  function query<R>(sql: string, parameters: readonly unknown[]): Promise<PostgresQueryResult<R>>;
  function query<R>(cursor: PostgresCursor<R>): PostgresCursor<R>;
  // It is always text: the dialect is given no cursor.
  function query(sql: unknown, parameters: readonly unknown[] = []): unknown {
    return client.query(String(sql), [...parameters]).catch((error: unknown) => {
      broken ||= !(error instanceof pg.DatabaseError && error.severity === "ERROR");
      throw error;
    });
  }
  return { query, release: () => client.release(broken) };
}

function listenForEver(
  config: pg.ClientConfig,
  hear: Readonly<Record<string, (payload: string) => void>>,
  up: () => void,
): () => Promise<void> {
  let client: pg.Client | undefined;
  let timer: NodeJS.Timeout | undefined;
  let pauseMs = RELISTEN_MIN_MS;
  let over = false;
  const again = (): void => {
    clearTimeout(timer);
    client = undefined;
    if (over) return;
    timer = setTimeout(connect, pauseMs);
    pauseMs = Math.min(RELISTEN_MAX_MS, 2 * pauseMs);
  };
  const connect = (): void => {
    const made = new pg.Client(config);
    client = made;
    const lost = (): void => {
      if (client !== made) return;
      made.end().catch(() => undefined);
      again();
    };
    made.on("error", lost);
    made.on("end", lost);
    made.on("notification", ({ channel, payload }) => hear[channel]?.(payload ?? ""));
    const probe = (): void => {
      timer = setTimeout(() => void made.query("select 1").then(probe, lost), LISTENER_PROBE_MS);
    };
    const begin = async (): Promise<void> => {
      await made.connect();
      for (const channel of Object.keys(hear)) await made.query(`listen ${pg.escapeIdentifier(channel)}`);
      if (client !== made || over) return;
      pauseMs = RELISTEN_MIN_MS;
      probe();
      up();
    };
    begin().catch(lost);
  };
  connect();
  return async () => {
    over = true;
    clearTimeout(timer);
    await client?.end().catch(() => undefined);
  };
}

/** Node gathers the failures of a name's several addresses under an empty message. */
function reasonOf(error: unknown): string {
  if (error instanceof AggregateError) return error.errors.map(reasonOf).join(", ");
  return error instanceof Error ? error.message : String(error);
}
