import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";
import type { Log } from "../../src/sys/log.js";
import { openSqlite } from "../../src/sys/sqlite.js";
import type { CreatedKey } from "../../src/wire/adminapi.js";
import { decodeJoinKey } from "../../src/wire/joinkey.js";
import { ask, stopAsking } from "./asking.js";
import { ADMIN_TOKEN, type Bench, openBench } from "./bench.js";

/** What a coordinator writes down: its log, its audit log, and what it answers to what it refuses. */
const LIMIT = { timeout: 120_000 };
const lines: string[] = [];
const at = (level: string) => (message: string, fields?: Record<string, unknown>) => {
  lines.push(JSON.stringify({ level, message, ...fields }));
};
const log: Log = { debug: at("debug"), info: at("info"), warn: at("warn"), error: at("error") };
let bench: Bench;
before(async () => {
  const post = () => Promise.resolve({ reason: "the line is down" });
  bench = await openBench({ parts: { log, post } });
});
after(async () => {
  stopAsking();
  await bench.close();
});

test("no secret is written down, and none is told to whoever is refused", LIMIT, async () => {
  const guess = "a-guess-that-is-wrong-0123456789";
  const idempotencyKey = "an-idempotency-key-0123456789";
  const refusals: string[] = [];
  const send = async (method: string, path: string, body?: unknown, token = ADMIN_TOKEN): Promise<string> => {
    const { status, text } = await ask(bench.coordinator.port, {
      ...{ method, path, token },
      headers: { "content-type": "application/json", "idempotency-key": idempotencyKey + path.length },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    if (status >= 400) refusals.push(text);
    return text;
  };
  const key = JSON.parse(await send("POST", "/api/v1/keys", { role: "device", reusable: true })) as CreatedKey;
  const hook = "https://hooks.example/services/T0123/secret-of-the-path";
  const webhook = JSON.parse(await send("POST", "/api/v1/webhooks", { url: hook })) as { id: string; secret: string };
  const joinSecret = decodeJoinKey(key.joinKey).secret;
  const device = bench.device("laptop", joinSecret);
  await device.until(({ map }) => map !== undefined);
  const stranger = bench.device(
    "stranger",
    joinSecret.replace(/^./, (first) => (first === "A" ? "B" : "A")),
  );
  await stranger.until(({ refusal }) => refusal !== undefined);
  await send("POST", `/api/v1/webhooks/${webhook.id}/test`);
  await send("GET", "/api/v1/devices", undefined, guess);
  // Secrets in the wrong place: what is refused is not repeated.
  await send("POST", "/api/v1/keys", { role: joinSecret, [joinSecret]: joinSecret, lifetimeMs: joinSecret });
  await send("POST", "/api/v1/webhooks", { url: `https://user:${guess}@hooks.example/` });
  await send("PUT", "/api/v1/relays/x", { url: "https://x", relayKey: guess });
  await send("POST", "/api/v1/devices/laptop/revoke");
  await send("DELETE", `/api/v1/keys/${key.id}`);
  await send("DELETE", `/api/v1/webhooks/${webhook.id}`);
  const db = openSqlite(join(bench.folder, "coordinator.db"));
  const audit = JSON.stringify(db.prepare("select * from audit").all([]));
  db.close();
  assert.match(audit, /webhook\.create/);
  assert.ok(
    lines.some((line) => /"message":"api".*"route":"\/keys"/.test(line)),
    lines.join("\n"),
  );
  assert.ok(refusals.length >= 4);
  const secrets = {
    ADMIN_TOKEN,
    joinSecret,
    joinKey: key.joinKey,
    guess,
    idempotencyKey,
    hook,
    path: "secret-of-the-path",
    signing: webhook.secret,
  };
  for (const [name, secret] of Object.entries(secrets))
    for (const [where, text] of [
      ["the log", lines.join("\n")],
      ["the audit log", audit],
      ["a refusal", refusals.join("\n")],
    ] as const)
      assert.ok(!text.includes(secret), `${name} is in ${where}`);
});

test("a change is in the log with who asked, from where, and what became of it; a look is not", LIMIT, async () => {
  lines.length = 0;
  await bench.call("GET", "/api/v1/keys");
  await bench.call("POST", "/api/v1/keys", { role: "device" });
  await bench.call("DELETE", "/api/v1/keys/nobody-has-this-name");
  const told = lines
    .map((line) => JSON.parse(line) as Record<string, unknown>)
    .filter(({ message }) => message === "api");
  assert.deepEqual(told, [
    {
      level: "info",
      message: "api",
      method: "POST",
      route: "/keys",
      status: 201,
      caller: "admin-token",
      remote: "127.0.0.1",
    },
    {
      level: "info",
      message: "api",
      method: "DELETE",
      route: "/keys/:id",
      status: 404,
      caller: "admin-token",
      remote: "127.0.0.1",
    },
  ]);
});
