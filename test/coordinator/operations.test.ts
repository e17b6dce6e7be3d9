import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { STRANGERS_ALLOWED } from "../../src/coordinator/api/mount.js";
import { openSqlite } from "../../src/sys/sqlite.js";
import { auditPage } from "../../src/wire/audit.js";
import { administratorOf } from "./administrator.js";
import { type Answered, type Asked, ask, stopAsking } from "./asking.js";
import { ADMIN_TOKEN, type Bench, openBench } from "./bench.js";

const LIMIT = { timeout: 120_000 };
let bench: Bench;
before(async () => {
  bench = await openBench();
});
after(async () => {
  stopAsking();
  await bench.close();
});

const send = (asked: Asked): Promise<Answered> => ask(bench.coordinator.port, { token: ADMIN_TOKEN, ...asked });
const newKey = (idempotencyKey: string, name: string): Promise<Answered> =>
  send({
    method: "POST",
    path: "/api/v1/keys",
    headers: { "content-type": "application/json", "idempotency-key": idempotencyKey },
    body: JSON.stringify({ role: "device", name }),
  });
const keysNamed = async (name: string): Promise<number> =>
  ((await bench.call("GET", "/api/v1/keys")).body as { keys: { name?: string }[] }).keys.filter(
    (key) => key.name === name,
  ).length;

test(
  "a request that is sent twice with one idempotency key happens once, and is answered the same",
  LIMIT,
  async () => {
    const first = await newKey("0123456789abcdef-once", "once");
    assert.equal(first.status, 201);
    const second = await newKey("0123456789abcdef-once", "once");
    assert.deepEqual([second.status, second.text], [first.status, first.text]);
    assert.equal(await keysNamed("once"), 1);
  },
);

test("two such requests at the same moment make one key; the one that is too early is told so", LIMIT, async () => {
  const answers = await Promise.all(Array.from({ length: 6 }, () => newKey("0123456789abcdef-race", "race")));
  assert.equal(await keysNamed("race"), 1);
  for (const { status, text } of answers) assert.ok(status === 201 || /request-unsettled/.test(text), text);
});

test("the same key with another request is refused, and nothing is made", LIMIT, async () => {
  await newKey("0123456789abcdef-other", "first");
  const { status, text } = await newKey("0123456789abcdef-other", "second");
  assert.equal(status, 422);
  assert.match(text, /idempotency-key-reused/);
  assert.equal(await keysNamed("second"), 0);
});

test(
  "a refused request leaves its key free, a day later it is forgotten, and a short key is no key",
  LIMIT,
  async () => {
    assert.equal((await newKey("0123456789abcdef-free", "NOT A NAME")).status, 400);
    assert.equal((await newKey("0123456789abcdef-free", "free")).status, 201);
    bench.advance(25 * 3_600_000);
    assert.equal((await newKey("0123456789abcdef-free", "free")).status, 201);
    assert.equal(await keysNamed("free"), 2);
    assert.equal((await newKey("short", "short")).status, 400);
  },
);

test("the answer to a keyed request holds a secret, and the store does not show it", LIMIT, async () => {
  const { text } = await newKey("0123456789abcdef-seal", "sealed");
  const { joinKey } = JSON.parse(text) as { joinKey: string };
  const db = openSqlite(join(bench.folder, "coordinator.db"));
  const rows = JSON.stringify(db.prepare("select * from replay").all([]));
  db.close();
  assert.ok(rows.length > 100);
  assert.ok(!rows.includes(joinKey.slice(-40)) && !rows.includes("0123456789abcdef-seal"));
});

test("the audit log is read page by page, each entry once, whatever is written meanwhile", LIMIT, async () => {
  const seen: number[] = [];
  for (let cursor = ""; ; ) {
    const { body } = await bench.call("GET", `/api/v1/audit?limit=2${cursor && `&cursor=${cursor}`}`);
    const page = auditPage.parse(body);
    seen.push(...page.entries.map(({ seq }) => seq));
    await bench.key({ role: "device" });
    if (page.next === undefined) break;
    cursor = page.next;
  }
  assert.ok(seen.length >= 5);
  assert.deepEqual(
    seen,
    Array.from({ length: seen.length }, (_, i) => seen.length - i),
  );
});

test("every list is read page by page, each entry once, and by exitnode whole", LIMIT, async () => {
  const all = ((await bench.call("GET", "/api/v1/keys")).body as { keys: { id: string }[] }).keys.map(({ id }) => id);
  assert.ok(all.length > 5);
  const seen: string[] = [];
  for (let cursor = ""; ; ) {
    const { body } = await bench.call(
      "GET",
      `/api/v1/keys?limit=2${cursor && `&cursor=${encodeURIComponent(cursor)}`}`,
    );
    const { keys, next } = body as { keys: { id: string }[]; next?: string };
    assert.ok(keys.length <= 2);
    seen.push(...keys.map(({ id }) => id));
    if (next === undefined) break;
    cursor = next;
  }
  assert.deepEqual(seen, all);
});

test("exitnode audit shows what was done, and audit verify follows the chain to what to note", LIMIT, async () => {
  const administrator = await administratorOf(bench);
  const shown = await administrator.run("audit", "--action", "key.*", "--limit", "3");
  assert.equal(shown.code, 0, shown.stderr);
  assert.match(shown.stdout, /^WHEN +WHO +ACTION +WHAT$/m);
  assert.match(shown.stdout, / admin-token +key\.create .*\n {4}from 127\.0\.0\.1 /);
  const verified = await administrator.run("audit", "verify", "--json");
  assert.equal(verified.code, 0, verified.stdout);
  const { last } = JSON.parse(verified.stdout) as { last: { seq: number; hash: string } };
  await bench.key({ role: "device" });
  const again = await administrator.run("audit", "verify", "--noted", `${last.seq}:${last.hash}`);
  assert.equal(again.code, 0, again.stderr);

  const db = openSqlite(join(bench.folder, "coordinator.db"));
  db.prepare("update audit set actor = 'nobody' where seq = 3").run([]);
  const tampered = await administrator.run("audit", "verify");
  assert.equal(tampered.code, 1);
  assert.match(tampered.stderr, /entry 3 of the audit log is not what was written there/);
  // All of it made anew, and sound in itself: only what was noted tells.
  db.prepare("delete from audit").run([]);
  db.close();
  await bench.key({ role: "device" });
  assert.equal((await administrator.run("audit", "verify")).code, 0);
  const rewritten = await administrator.run("audit", "verify", "--noted", `${last.seq}:${last.hash}`);
  assert.equal(rewritten.code, 1, rewritten.stdout);
  assert.match(rewritten.stderr, /is not the one that was noted, or is gone/);
});

test("exitnode coordinator openapi prints a document whose every reference is there", LIMIT, async () => {
  const { stdout, code } = await (await administratorOf(bench)).run("coordinator", "openapi");
  assert.equal(code, 0);
  const document = JSON.parse(stdout) as Record<string, unknown>;
  assert.equal(document.openapi, "3.1.0");
  const text = JSON.stringify(document);
  for (const [, reference = ""] of text.matchAll(/"\$ref":"#\/([^"]*)"/g))
    assert.ok(
      reference.split("/").reduce<unknown>((at, name) => (at as Record<string, unknown> | undefined)?.[name], document),
      reference,
    );
  const ids: string[] = [];
  for (const [path, methods] of Object.entries(document.paths as Record<string, Record<string, Operation>>))
    for (const { operationId, summary, responses, parameters = [] } of Object.values(methods)) {
      ids.push(operationId);
      assert.ok(summary.length > 5, path);
      assert.ok(
        Object.keys(responses).includes("default") && Object.keys(responses).some((one) => /^20[014]$/.test(one)),
        path,
      );
      // §4.8.9: each part of the path in braces is a parameter, and the other way round.
      const named = parameters.filter((one) => one.in === "path").map(({ name }) => `{${name}}`);
      assert.deepEqual(named, path.match(/\{\w+\}/g) ?? [], path);
      assert.equal(new Set(parameters.map((one) => `${one.in} ${one.name}`)).size, parameters.length);
    }
  assert.equal(new Set(ids).size, ids.length, "an operationId is there twice");
});

test("an address that asks without end, and says not who it is, is told to ask less often", LIMIT, async () => {
  const asked = (): Promise<Answered> => send({ method: "GET", path: "/api/v1/network", token: undefined });
  let taken = 0;
  let answer = await asked();
  for (; answer.status === 200; answer = await asked()) taken++;
  assert.equal(answer.status, 429);
  // While it asks, it may ask some more.
  assert.ok(taken >= STRANGERS_ALLOWED.burst, `${taken} were answered`);
  assert.match(String(answer.headers["retry-after"]), /^\d+$/);
  assert.equal((await send({ method: "GET", path: "/api/v1/status" })).status, 200);
});

test("an If-Match that is no version is refused, and not taken for none", LIMIT, async () => {
  const put = (ifMatch: string): Promise<Answered> =>
    send({
      ...{ method: "PUT", path: "/api/v1/policy", body: JSON.stringify({ text: "grants: []" }) },
      headers: { "content-type": "application/json", "if-match": ifMatch },
    });
  const { headers } = await send({ method: "GET", path: "/api/v1/policy" });
  for (const wrong of ["7", 'W/"0"', '"0", "1"', ""]) assert.equal((await put(wrong)).status, 400, wrong);
  for (const stale of ['"41"', '"none"', '"41.0"']) assert.equal((await put(stale)).status, 412, stale);
  assert.equal((await put(String(headers.etag))).status, 200);
  const late = await put(String(headers.etag));
  assert.deepEqual([late.status, JSON.parse(late.text).code], [412, "policy-changed"]);
  assert.equal((await put("*")).status, 200);
});

test("what has no versions takes no If-Match, and the document says what does", LIMIT, async () => {
  const made = await send({
    ...{ method: "POST", path: "/api/v1/keys", body: JSON.stringify({ role: "device" }) },
    headers: { "content-type": "application/json", "if-match": '"0"' },
  });
  assert.deepEqual([made.status, JSON.parse(made.text).code], [400, "message-invalid"]);
  const { paths } = JSON.parse((await send({ method: "GET", path: "/api/v1/openapi.json" })).text) as {
    paths: Record<string, Record<string, Operation>>;
  };
  const versioned = Object.values(paths)
    .flatMap((operations) => Object.values(operations))
    .filter(({ parameters = [] }) => parameters.some(({ name }) => name === "If-Match"));
  assert.deepEqual(
    versioned.map(({ operationId, responses }) => [operationId, "412" in responses]),
    [["putPolicy", true]],
  );
});

test("it lives, it is ready, and Prometheus reads its figures with a token alone", LIMIT, async () => {
  for (const path of ["/healthz", "/readyz"])
    assert.equal((await send({ method: "GET", path, token: undefined })).status, 200);
  assert.equal((await send({ method: "GET", path: "/metrics", token: undefined })).status, 401);
  await send({ method: "GET", path: "/api/v1/devices/../nowhere" });
  const { status, text, headers } = await send({ method: "GET", path: "/metrics" });
  assert.equal(status, 200);
  assert.match(String(headers["content-type"]), /^text\/plain; version=0\.0\.4/);
  for (const line of text.trimEnd().split("\n"))
    assert.match(line, /^(# (HELP|TYPE) [a-z_]+ .+|[a-z_]+(\{[a-z]+="[^"]*"(,[a-z]+="[^"]*")*\})? [0-9.e+-]+)$/, line);
  assert.match(text, /^exitnode_devices\{role="device",state="member"\} \d+$/m);
  assert.match(text, /^exitnode_api_requests_total\{method="POST",route="\/keys",status="201"\} \d+$/m);
  assert.doesNotMatch(text, /nowhere/, "a stranger's path has made a line");
});

type Operation = {
  readonly operationId: string;
  readonly summary: string;
  readonly responses: Record<string, unknown>;
  readonly parameters?: { readonly name: string; readonly in: string }[];
};
