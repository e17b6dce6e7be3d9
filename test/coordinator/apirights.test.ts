import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { hashToken } from "../../src/coordinator/apitoken.js";
import { toBase64, toBase64Url } from "../../src/kit/bytes.js";
import type { Cidr } from "../../src/kit/ip.js";
import { systemRandom } from "../../src/sys/random.js";
import { openSqlite } from "../../src/sys/sqlite.js";
import { type CreatedKey, SCOPES } from "../../src/wire/adminapi.js";
import type { UserInfo } from "../../src/wire/identity.js";
import { decodeJoinKey } from "../../src/wire/joinkey.js";
import { type Operation, operationsOf, refused, sampleOf, sqliteLook, unchanged } from "./apidocument.js";
import { type Answered, ask, stopAsking } from "./asking.js";
import { type Bench, openBench } from "./bench.js";

/** Two people of one network, and what is the other's; tokens that are over. For every operation there is. */

const LIMIT = { timeout: 120_000 };
let bench: Bench;
let operations: Operation[];
let alice: Person;
let bob: Person;
/** What is bob's: a device by id and by name, a join key, a token, and himself. */
let bobs: { readonly ids: string[]; readonly name: string };

type Person = { readonly id: string; readonly token: string };

before(async () => {
  // Each request below comes from an address of its own: guesses are counted by address.
  bench = await openBench({ want: { trustedProxies: ["127.0.0.0/8"] as Cidr[] } });
  operations = await operationsOf(bench);
  [alice, bob] = [await person("alice"), await person("bob")];
  const made = async (path: string, body: unknown): Promise<unknown> => {
    const { status, text } = await send(bob.token, "POST", path, JSON.stringify(body));
    assert.equal(status, 201, text);
    return JSON.parse(text);
  };
  const key = (await made("/keys", { role: "device", reusable: true })) as CreatedKey;
  const token = (await made("/tokens", { scopes: ["status:read"] })) as { id: string };
  const device = await bench
    .device("bobs-laptop", decodeJoinKey(key.joinKey).secret)
    .until(({ deviceId }) => !!deviceId);
  bobs = { ids: [device.deviceId ?? "", key.id, token.id, bob.id], name: "bobs-laptop" };
});
after(async () => {
  stopAsking();
  await bench.close();
});

let requests = 0;
function send(token: string, method: string, path: string, body?: string): Promise<Answered> {
  const from = `198.51.${++requests >> 8}.${requests & 255}`;
  const headers = { "x-forwarded-for": from, ...(body === undefined ? {} : { "content-type": "application/json" }) };
  return ask(bench.coordinator.port, { method, path: `/api/v1${path}`, token, headers, body });
}
const bodyOf = ({ body }: Operation): string | undefined =>
  body === undefined ? undefined : JSON.stringify(sampleOf(body));
const at = ({ path }: Operation, id: string): string => path.replaceAll(/\{\w+\}/g, encodeURIComponent(id));

/** A member, and a token that acts as them with every scope there is: what they may not is not the token's doing. */
async function person(login: string): Promise<Person> {
  const { id } = (await bench.call("POST", "/api/v1/users", { login })).body as UserInfo;
  const secret = toBase64Url(systemRandom(32));
  const tokenId = `t${login.padEnd(12, "0").replaceAll(/[^0-9a-f]/g, "0")}`;
  const db = openSqlite(join(bench.folder, "coordinator.db"));
  db.prepare(
    "insert into api_token (id, secret_hash, name, user_id, scopes, created_at_ms) values (?, ?, ?, ?, ?, 1)",
  ).run([tokenId, hashToken(secret), login, id, JSON.stringify(SCOPES)]);
  db.close();
  return { id, token: `exntok-${tokenId}-${secret}` };
}

test("what is somebody else's cannot be changed, nor seen, nor told from what does not exist", LIMIT, async () => {
  let tried = 0;
  await unchanged(sqliteLook(bench), async () => {
    for (const one of operations.filter(({ path, scope }) => path.includes("{") && scope !== undefined))
      for (const id of [...bobs.ids, bobs.name]) {
        const [theirs, nobodys] = [
          await send(alice.token, one.method, at(one, id), bodyOf(one)),
          await send(alice.token, one.method, at(one, "nobody-has-this"), bodyOf(one)),
        ];
        refused(`${one.method} ${at(one, id)}`, theirs);
        assert.equal(
          theirs.status,
          nobodys.status,
          `${one.method} ${at(one, id)} tells that it is there: ${theirs.text}`,
        );
        tried++;
      }
    for (const one of operations.filter(({ path, method }) => method === "GET" && !path.includes("{"))) {
      const { status, text } = await send(alice.token, "GET", one.path);
      if (status === 200) for (const id of bobs.ids) assert.ok(!text.includes(id), `GET ${one.path} shows ${id}`);
    }
  });
  assert.ok(tried >= 30, `${tried} were tried`);
});

test("what is one's own can be seen, as far as it is one's own", LIMIT, async () => {
  const { text } = await send(bob.token, "GET", "/devices");
  assert.ok(text.includes(bobs.name));
  assert.equal((JSON.parse(text) as { devices: unknown[] }).devices.length, 1);
});

test("a member makes join keys for devices of their own alone, and is not told who else there is", LIMIT, async () => {
  const make = (token: string, wanted: object): Promise<Answered> =>
    send(token, "POST", "/keys", JSON.stringify({ role: "device", ...wanted }));
  for (const user of [alice.id, "alice", undefined]) {
    const { status, text } = await make(alice.token, { user });
    assert.deepEqual([status, JSON.parse(text).userId, JSON.parse(text).user], [201, alice.id, "alice"]);
  }
  await unchanged(sqliteLook(bench), async () => {
    const answers = await Promise.all([bob.id, "bob", "nobody"].map((user) => make(alice.token, { user })));
    assert.deepEqual(new Set(answers.map(({ status }) => status)), new Set([403]));
    assert.equal(new Set(answers.map(({ text }) => text)).size, 1);
  });
});

test("a member is refused what is for administrators, whatever the token says", LIMIT, async () => {
  const members = new Set([
    "status:read",
    "devices:read",
    "devices:write",
    "keys:read",
    "keys:write",
    "tokens:read",
    "tokens:write",
  ]);
  await unchanged(sqliteLook(bench), async () => {
    for (const one of operations.filter(({ scope }) => scope !== undefined && !members.has(scope))) {
      const answered = await send(alice.token, one.method, at(one, "x"), bodyOf(one));
      assert.equal(answered.status, 403, `${one.method} ${one.path}: ${answered.text}`);
      refused(one.path, answered);
    }
  });
});

test(
  "a member lets WireGuard apps of their own in, which wait where devices do, and nobody else's",
  LIMIT,
  async () => {
    const exit = await bench.call("POST", "/api/v1/keys", { role: "exit-node" });
    const { secret } = decodeJoinKey((exit.body as CreatedKey).joinKey);
    await bench.device("home", secret).until(({ deviceId }) => !!deviceId);
    await bench.call("PATCH", "/api/v1/settings", { approvalRequired: true });
    const add = async (token: string, name: string, more: object = {}) => {
      const publicKey = toBase64(systemRandom(32));
      const body = JSON.stringify({ name, publicKey, endpoint: "203.0.113.7:51820", ...more });
      const { status, text } = await send(token, "POST", "/devices", body);
      return { status, ...(JSON.parse(text) as { user?: string; waiting?: string; code?: string }) };
    };
    const own = await add(alice.token, "alices-phone");
    assert.deepEqual([own.status, own.user, own.waiting], [201, "alice", "approval"]);
    for (const more of [{ user: "bob" }, { tags: ["server"] }])
      assert.deepEqual((await add(alice.token, "another", more)).code, "scope-missing");
    assert.deepEqual((await add(alice.token, "bobs-laptop")).code, "name-taken");
    assert.equal((await send(bob.token, "POST", "/devices/alices-phone/revoke")).status, 404);
    await bench.call("PATCH", "/api/v1/settings", { approvalRequired: false });
  },
);

test("a token that is over opens nothing: revoked, expired, or of somebody who was disabled", LIMIT, async () => {
  const make = async (body: object): Promise<{ id: string; token: string }> =>
    (await bench.call("POST", "/api/v1/tokens", { scopes: SCOPES, ...body })).body as { id: string; token: string };
  const [revoked, expired] = [await make({ name: "revoked" }), await make({ name: "expired", lifetimeMs: 60_000 })];
  for (const { token } of [revoked, expired]) assert.equal((await send(token, "GET", "/status")).status, 200);
  assert.equal((await bench.call("DELETE", `/api/v1/tokens/${revoked.id}`)).status, 204);
  assert.equal((await bench.call("PATCH", "/api/v1/users/alice", { disabled: true })).status, 200);
  bench.advance(61_000);
  await unchanged(sqliteLook(bench), async () => {
    for (const one of operations.filter(({ scope }) => scope !== undefined))
      for (const token of [revoked.token, expired.token, alice.token, `${bob.token.slice(0, -1)}!`]) {
        const answered = await send(token, one.method, at(one, bobs.name), bodyOf(one));
        assert.equal(answered.status, 401, `${one.method} ${one.path}: ${answered.text}`);
        refused(one.path, answered);
      }
  });
});

test("who guesses is locked out by the address that the trusted proxy names, and nobody else is", LIMIT, async () => {
  const guess = (from: string): Promise<Answered> =>
    ask(bench.coordinator.port, {
      ...{ method: "GET", path: "/api/v1/status", token: "a-guess" },
      headers: { "x-forwarded-for": from },
    });
  const statuses: number[] = [];
  for (let n = 0; n < 25; n++) statuses.push((await guess("203.0.113.66")).status);
  assert.deepEqual([statuses[0], statuses.at(-1)], [401, 429]);
  assert.equal((await guess("203.0.113.67")).status, 401);
  assert.equal((await bench.call("GET", "/api/v1/status")).status, 200);
});
