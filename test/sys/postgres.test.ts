import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { openPostgres, type Postgres, type PostgresWant } from "../../src/sys/postgres.js";
import { startPostgres, type TestPostgres } from "../coordinator/postgres.js";

const LIMIT = { timeout: 60_000 };
let server: TestPostgres;
let want: PostgresWant;
const opened: Postgres[] = [];
before(async () => {
  server = await startPostgres();
  const { host, port, user } = server;
  want = { host, port, user, database: await server.database(), tls: { kind: "off" } };
});
after(async () => {
  await Promise.all(opened.map(({ pool }) => pool.end()));
  await server.close();
});
function open(more: Partial<PostgresWant> = {}): Postgres {
  const postgres = openPostgres({ ...want, ...more });
  opened.push(postgres);
  return postgres;
}

test("bigints come as numbers", LIMIT, async () => {
  const client = await open().pool.connect();
  const { rows } = await client.query(
    "select 1800000000000::bigint as at, count(*) as n from pg_class where false",
    [],
  );
  client.release();
  assert.deepEqual(rows, [{ at: 1_800_000_000_000, n: 0 }]);
});

test("a database that is not there is told by its name and place, and never with the password", LIMIT, async () => {
  for (const more of [{ database: "nothing" }, { host: "/nonexistent" }, { host: "127.0.0.1", port: 1 }]) {
    const refused = await open({ ...more, password: "s3cret" })
      .pool.connect()
      .then(
        () => assert.fail("it connected"),
        (error: unknown) => error,
      );
    assert.ok(refused instanceof Error);
    assert.equal(Reflect.get(refused, "code"), "store-unavailable");
    const { database, host } = { ...want, ...more };
    assert.ok(refused.message.includes(`"${database}" at ${host}`), refused.message);
    assert.doesNotMatch(JSON.stringify([refused.message, Reflect.get(refused, "advice")]), /s3cret/);
  }
});

test("a listener hears again after the server has ended its connection, and says that it does", LIMIT, async () => {
  const postgres = open();
  const heard: string[] = [];
  let ups = 0;
  let look: () => void = () => undefined;
  const until = (holds: () => boolean): Promise<void> =>
    new Promise((resolve) => {
      look = () => {
        if (holds()) resolve();
      };
      look();
    });
  const stop = postgres.listen(
    {
      word: (payload) => {
        heard.push(payload);
        look();
      },
    },
    () => {
      ups++;
      look();
    },
  );
  await until(() => ups === 1);
  await postgres.notify("word", "one");
  await until(() => heard.length === 1);
  await server.disconnect(want.database);
  await until(() => ups === 2);
  await postgres.notify("word", "two").catch(() => postgres.notify("word", "two")); // its connection was ended too
  await until(() => heard.length === 2);
  assert.deepEqual(heard, ["one", "two"]);
  await stop();
});

test(
  "connections that the server ends in the middle of a statement end that statement, and nothing else",
  LIMIT,
  async () => {
    const { pool } = open();
    const client = await pool.connect();
    const { rows } = await client.query<{ pid: number }>("select pg_backend_pid() as pid", []);
    const { pid } = rows[0] ?? assert.fail("no row");
    await client.query("begin", []);
    // Its last word comes as the statement's answer, however fast the server is.
    process.kill(pid, "SIGSTOP");
    process.kill(pid, "SIGTERM");
    const statement = client.query("select 1", []);
    process.kill(pid, "SIGCONT");
    await assert.rejects(statement);
    client.release();
    const next = await pool.connect();
    assert.equal((await next.query("select 1 as one", [])).rows.length, 1);
    next.release();
  },
);
