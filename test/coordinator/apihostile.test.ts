import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { openPostgresStore } from "../../src/cli/postgresstore.js";
import { BODY_BYTES_MAX } from "../../src/coordinator/api/body.js";
import { localFiles } from "../../src/sys/files.js";
import {
  type Look,
  type Operation,
  operationsOf,
  postgresLook,
  refused,
  type Schema,
  sampleOf,
  sqliteLook,
  unchanged,
} from "./apidocument.js";
import { type Answered, type Asked, ask, shout, stopAsking } from "./asking.js";
import { ADMIN_TOKEN, type Bench, openBench } from "./bench.js";
import { startPostgres, type TestPostgres } from "./postgres.js";

/** Every operation of the OpenAPI document against everything that is wrong: refused in one form, and nothing changes. */

const LIMIT = { timeout: 120_000 };

for (const engine of ["sqlite", "postgres"] as const)
  describe(`over ${engine}`, () => {
    let bench: Bench;
    let operations: Operation[];
    let postgres: TestPostgres | undefined;
    let look: Look;
    /** A token that may only see the status. */
    let weakToken: string;

    before(async () => {
      if (engine === "sqlite") {
        bench = await openBench();
        look = sqliteLook(bench);
      } else {
        postgres = await startPostgres();
        const { host, port, user } = postgres;
        const database = await postgres.database();
        bench = await openBench({
          parts: { openPostgres: (want) => openPostgresStore(localFiles, want) },
          want: { store: { kind: "postgres", host, port, user, database, tls: "off" } },
        });
        look = postgresLook(postgres, database);
      }
      operations = await operationsOf(bench);
      await bench.key({ role: "device" });
      const made = await bench.call("POST", "/api/v1/tokens", { name: "weak", scopes: ["status:read"] });
      weakToken = (made.body as { token: string }).token;
    });
    after(async () => {
      stopAsking();
      await bench.close();
      await postgres?.close();
    });

    const send = (asked: Asked): Promise<Answered> => ask(bench.coordinator.port, { token: ADMIN_TOKEN, ...asked });

    test("there are operations to be tried, each with a body that names its fields and takes no other", LIMIT, () => {
      assert.ok(operations.length >= 15, `${operations.length} operations`);
      const open = operations.filter(
        ({ body }) => body?.properties !== undefined && body.additionalProperties !== false,
      );
      assert.deepEqual(open.map(nameOf), []);
    });

    test("without a token every operation is closed, and so is what does not exist", LIMIT, async () => {
      await unchanged(look, async () => {
        const closed = operations.filter(({ scope }) => scope !== undefined);
        for (const one of [...closed, ...closed.map((each) => ({ ...each, path: `${each.path}/nowhere` }))]) {
          const { status, headers, text } = await send({ method: one.method, path: at(one), token: undefined });
          assert.equal(status, 401, `${nameOf(one)}: ${text}`);
          assert.match(String(headers["www-authenticate"]), /^Bearer/);
          refused(nameOf(one), { status, headers, text });
        }
      });
    });

    test("a token of another scope opens no operation", LIMIT, async () => {
      await unchanged(look, async () => {
        for (const one of operations.filter(({ scope }) => scope !== undefined && scope !== "status:read")) {
          const answered = await send({ method: one.method, path: at(one), token: weakToken, ...bodyFor(one) });
          assert.equal(answered.status, 403, `${nameOf(one)}: ${answered.text}`);
          refused(nameOf(one), answered);
        }
      });
    });

    test("a body of the wrong shape is refused, field by field", LIMIT, async () => {
      let tried = 0;
      await unchanged(look, async () => {
        for (const one of operations) {
          if (one.body === undefined) continue;
          for (const [what, body] of wrongBodies(one.body)) {
            const answered = await send({ method: one.method, path: at(one), headers: JSON_TYPE, body });
            refused(`${nameOf(one)} with ${what}`, answered);
            tried++;
          }
        }
      });
      assert.ok(tried > 40, `${tried} bodies`);
    });

    test(
      "what is no JSON, no UTF-8, of another type or too long is refused before it is looked at",
      LIMIT,
      async () => {
        const broken: [string, string | Uint8Array, number][] = [
          ["nothing", "", 400],
          ["half an object", '{"a":', 400],
          ["no JSON", "NaN", 400],
          ["no UTF-8", Uint8Array.of(0x22, 0xff, 0xfe, 0x22), 400],
          ["a NUL", '{"name":"a\\u0000b"}', 400],
          ["a deep nest", "[".repeat(BODY_BYTES_MAX / 2) + "]".repeat(BODY_BYTES_MAX / 2), 400],
          ["too much", JSON.stringify("x".repeat(BODY_BYTES_MAX)), 413],
        ];
        await unchanged(look, async () => {
          for (const one of operations.filter(({ body }) => body !== undefined)) {
            for (const [what, body, status] of broken) {
              const answered = await send({ method: one.method, path: at(one), headers: JSON_TYPE, body });
              assert.equal(answered.status, status, `${nameOf(one)} with ${what}: ${answered.text}`);
              refused(`${nameOf(one)} with ${what}`, answered);
            }
            for (const type of [
              "text/plain",
              "application/xml",
              "multipart/form-data; boundary=x",
              "application/json; charset=utf-16",
            ]) {
              const answered = await send({
                method: one.method,
                path: at(one),
                headers: { "content-type": type },
                body: "{}",
              });
              assert.equal(answered.status, 415, `${nameOf(one)} as ${type}: ${answered.text}`);
            }
          }
          for (const one of operations.filter(({ body, method }) => body === undefined && method !== "GET"))
            refused(
              `${nameOf(one)} with a body`,
              await send({ method: one.method, path: at(one), headers: JSON_TYPE, body: '{"a":1}' }),
            );
        });
      },
    );

    test("a query that an operation does not know, or that says something twice, is refused", LIMIT, async () => {
      await unchanged(look, async () => {
        for (const one of operations) {
          const queries = [
            "surprise=1",
            "limit=0",
            "limit=-1",
            "limit=abc",
            "limit=99999999",
            "cursor=%00",
            `x=${"y".repeat(600)}`,
          ];
          for (const name of one.query) queries.push(`${name}=1&${name}=2`, `${name}=%0a`);
          for (const query of queries)
            refused(
              `${nameOf(one)}?${query.slice(0, 30)}`,
              await send({ method: one.method, path: `${at(one)}?${query}`, ...bodyFor(one) }),
            );
        }
      });
    });

    test("tricks in the path reach nothing", LIMIT, async () => {
      const tricks = [
        "..",
        "%2e%2e",
        "..%2f..%2fetc%2fpasswd",
        "%00",
        "a%00b",
        "%ff%fe",
        "%",
        "%0d%0aSet-Cookie:%20a=b",
        "",
        "/",
        "%2f",
        "a".repeat(4_000),
        "__proto__",
        "constructor",
        "'%20or%20'1'='1",
        "%E2%80%AE",
        "*",
      ];
      await unchanged(look, async () => {
        for (const one of operations.filter(({ path }) => path.includes("{")))
          for (const trick of tricks) {
            const path = `/api/v1${one.path.replaceAll(/\{\w+\}/g, trick)}`;
            const answered = await send({ method: one.method, path, ...bodyFor(one) });
            // A trick may be another path's right name: what must not be is a change, or a failure of ours.
            if (one.method !== "GET" || answered.status >= 300) refused(`${one.method} ${path.slice(0, 80)}`, answered);
          }
        for (const path of [
          "//api/v1/status",
          "/api/v1//status",
          "/api/v1/../v1/nowhere",
          "/api/v2/status",
          "/api/v1",
          "/etc/passwd",
        ])
          refused(path, await send({ method: "GET", path }));
      });
    });

    test("a method that a path does not take is answered with those it does", LIMIT, async () => {
      const paths = new Map<string, string[]>();
      for (const { path, method } of operations) paths.set(path, [...(paths.get(path) ?? []), method]);
      await unchanged(look, async () => {
        for (const [path, methods] of paths)
          for (const method of ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"]) {
            if (methods.includes(method)) continue;
            const answered = await send({ method, path: `/api/v1${path.replaceAll(/\{\w+\}/g, "x")}` });
            // Another operation's pattern may take it.
            if (answered.status === 404) continue;
            assert.equal(answered.status, 405, `${method} ${path}: ${answered.text}`);
            assert.ok(methods.every((one) => String(answered.headers.allow).includes(one)));
            refused(`${method} ${path}`, answered);
          }
      });
    });

    test("what is no HTTP request at all is answered in the same form, and its connection ends", LIMIT, async () => {
      const { port } = bench.coordinator;
      const start = "GET /api/v1/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n";
      const junk: [string, RegExp][] = [
        ["BREW /pot HTTP/1.1\r\n\r\n", /^HTTP\/1\.1 400 /],
        [`${start}X: ${"y".repeat(40_000)}\r\n\r\n`, /^HTTP\/1\.1 431 /],
        ["TRACE /api/v1/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", /^HTTP\/1\.1 4\d\d /],
        ["GET http://[ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", /^HTTP\/1\.1 400 /],
        ["GET /api/v1/status HTTP/1.1\r\nHost: a b\r\nConnection: close\r\n\r\n", /^HTTP\/1\.1 400 /],
        [
          `POST /api/v1/keys HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
          /^HTTP\/1\.1 400 /,
        ],
      ];
      for (const [bytes, expected] of junk) {
        const answer = await shout(port, bytes);
        assert.match(answer, expected, bytes.slice(0, 60));
        assert.match(answer, /application\/problem\+json/, bytes.slice(0, 60));
      }
    });

    test("every answer has the headers that keep a browser from making more of it", LIMIT, async () => {
      for (const path of ["/healthz", "/api/v1/status", "/api/v1/nowhere", "/nowhere"]) {
        const { headers } = await send({ method: "GET", path });
        assert.equal(headers["x-content-type-options"], "nosniff", path);
        assert.equal(headers["cache-control"], "no-store", path);
        assert.match(String(headers["content-security-policy"]), /default-src 'none'/, path);
      }
    });
  });

const JSON_TYPE = { "content-type": "application/json" };
const nameOf = ({ method, path }: Operation): string => `${method} ${path}`;
const at = ({ path }: Operation): string => `/api/v1${path.replaceAll(/\{\w+\}/g, "nobody-has-this-name")}`;
const bodyFor = ({ body }: Operation) => (body === undefined ? {} : { headers: JSON_TYPE, body: "{}" });

const WRONG: readonly unknown[] = [null, true, -1.5, 1e300, "", "\u202e", "x".repeat(5_000), [], [[]], {}, { a: 1 }];

/** Bodies with one thing wrong each, as JSON. */
function* wrongBodies(schema: Schema): Generator<[string, string]> {
  for (const value of [null, true, 7, "text", []]) yield [`${JSON.stringify(value)} for a body`, JSON.stringify(value)];
  const right = sampleOf(schema) as Record<string, unknown>;
  yield ["a field too many", JSON.stringify({ ...right, surprise: 1 })];
  yield ["__proto__", `{"__proto__":{"role":"device"},${JSON.stringify(right).slice(1)}`];
  for (const name of schema.required ?? []) {
    const { [name]: _, ...rest } = right;
    yield [`no ${name}`, JSON.stringify(rest)];
  }
  for (const [name, field] of Object.entries(schema.properties ?? {}))
    for (const value of WRONG)
      if (!fits(field, value))
        yield [`${name} = ${JSON.stringify(value).slice(0, 20)}`, JSON.stringify({ ...right, [name]: value })];
}

/** By type alone: what fits by it and is wrong all the same is other tests' matter. */
function fits(schema: Schema, value: unknown): boolean {
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices !== undefined) return choices.some((one) => fits(one, value));
  if (schema.enum !== undefined) return schema.enum.includes(value);
  if (schema.const !== undefined) return schema.const === value;
  switch (schema.type) {
    case undefined:
      return true;
    case "null":
      return value === null;
    case "array":
      return Array.isArray(value);
    case "object":
      return typeof value === "object" && value !== null && !Array.isArray(value);
    case "integer":
      return Number.isSafeInteger(value) && (value as number) >= (schema.minimum ?? -Infinity);
    default:
      return typeof value === schema.type;
  }
}
