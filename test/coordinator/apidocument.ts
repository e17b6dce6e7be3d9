import assert from "node:assert/strict";
import { join } from "node:path";
import { toHex, utf8 } from "../../src/kit/bytes.js";
import { sha256 } from "../../src/kit/sha256.js";
import { openSqlite } from "../../src/sys/sqlite.js";
import { type Answered, ask } from "./asking.js";
import { ADMIN_TOKEN, type Bench } from "./bench.js";
import type { TestPostgres } from "./postgres.js";

/** The operations that a coordinator's own OpenAPI document tells of, and what is asked of each of them. */

export type Schema = {
  readonly type?: string;
  readonly enum?: readonly unknown[];
  readonly const?: unknown;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
  readonly additionalProperties?: unknown;
  readonly anyOf?: readonly Schema[];
  readonly oneOf?: readonly Schema[];
  readonly items?: Schema;
  readonly minimum?: number;
  readonly default?: unknown;
};
export type Operation = {
  readonly method: string;
  readonly path: string;
  readonly scope: string | undefined;
  readonly query: readonly string[];
  readonly body: Schema | undefined;
};

/** Of the coordinator that runs. */
export async function operationsOf(bench: Bench): Promise<Operation[]> {
  const { status, text } = await ask(bench.coordinator.port, {
    ...{ method: "GET", path: "/api/v1/openapi.json", token: ADMIN_TOKEN },
  });
  assert.equal(status, 200, text);
  return operationsIn(JSON.parse(text));
}

/** RFC 9457, with our code and no word of our inside. */
export function refused(what: string, { status, headers, text }: Answered): void {
  assert.ok(status >= 400 && status < 500, `${what}: HTTP ${status} ${text.slice(0, 300)}`);
  assert.notEqual(status, 429, `${what}: it was not looked at`);
  assert.equal(headers["content-type"], "application/problem+json", what);
  const problem = JSON.parse(text) as Record<string, unknown>;
  assert.equal(problem.status, status, what);
  for (const field of ["type", "title", "detail", "code"])
    assert.equal(typeof problem[field], "string", `${what}: ${field}`);
  assert.doesNotMatch(text, /node_modules|\.[jt]s:\d|sqlite|SQLITE|at \w+ \(/, what);
}

/** All that lasts, as one hash. */
export type Look = () => Promise<string>;

/** Nothing that lasts is another after `tries` than before. */
export async function unchanged(look: Look, tries: () => Promise<void>): Promise<void> {
  const before = await look();
  await tries();
  assert.equal(await look(), before, "the store has changed");
}

type Row = Readonly<Record<string, unknown>>;

export const sqliteLook =
  (bench: Bench): Look =>
  async () => {
    const db = openSqlite(join(bench.folder, "coordinator.db"));
    try {
      const read = async (sql: string): Promise<Row[]> => [...db.prepare(sql).all([])] as Row[];
      return await hashOf(read, "select name from sqlite_master where type = 'table' order by name");
    } finally {
      db.close();
    }
  };

export const postgresLook =
  (postgres: TestPostgres, database: string): Look =>
  () =>
    hashOf(
      async (sql) => (await postgres.run(database, sql)) as Row[],
      "select table_name as name from information_schema.tables where table_schema = 'public' order by 1",
    );

/** Who looked when is no change: leases, presence, the moment a token was last used, and the notes of that. */
async function hashOf(read: (sql: string) => Promise<Row[]>, names: string): Promise<string> {
  const contents: unknown[] = [];
  for (const { name } of await read(names)) {
    if (["lease", "presence", "change"].includes(String(name)) || String(name).startsWith("sqlite_")) continue;
    const rows = await read(`select * from "${name}" order by 1`);
    contents.push(
      name,
      rows.map(({ used_at_ms: _, last_seen_at_ms: __, ...row }) => row),
    );
  }
  return toHex(sha256(utf8(JSON.stringify(contents))));
}

function operationsIn(document: unknown): Operation[] {
  const { paths } = document as { paths: Record<string, Record<string, Record<string, unknown>>> };
  return Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]): Operation => {
      const { security, parameters, requestBody } = operation as {
        security: { token?: string[] }[];
        parameters?: { name: string; in: string }[];
        requestBody?: { content: Record<string, { schema: Schema }> };
      };
      return {
        method: method.toUpperCase(),
        path,
        scope: security[0]?.token?.[0],
        query: (parameters ?? []).filter((one) => one.in === "query").map(({ name }) => name),
        body: requestBody?.content["application/json"]?.schema,
      };
    }),
  );
}

/** A value of that shape, with what is required alone. */
export function sampleOf(schema: Schema): unknown {
  if (schema.default !== undefined) return schema.default;
  if (schema.const !== undefined) return schema.const;
  if (schema.enum !== undefined) return schema.enum[0];
  const [choice] = schema.anyOf ?? schema.oneOf ?? [];
  if (choice !== undefined) return sampleOf(choice);
  switch (schema.type) {
    case "object":
      return Object.fromEntries(
        (schema.required ?? []).map((name) => [name, sampleOf(schema.properties?.[name] ?? {})]),
      );
    case "array":
      return [];
    case "integer":
    case "number":
      return schema.minimum ?? 1;
    case "boolean":
      return false;
    default:
      return "sample";
  }
}
