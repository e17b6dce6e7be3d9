import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { proxmoxApi } from "proxmox-api";
import { Failure } from "../../src/kit/failure.js";
import { HOUR, MINUTE } from "../../src/kit/time.js";
import { type Engine, encode, openEngine, READ_TRIES_MAX } from "../../src/pve/engine.js";
import { type Https, openHttps } from "../../src/sys/https.js";
import { type Act, type FakeHost, type Seen, startFakeHost } from "./fakehost.js";
import { TestClock } from "./testclock.js";

const TOKEN = { login: "rm@pve!client", secret: "11111111-2222-3333-4444-555555555555" };
const open: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const close of open.splice(0)) await close();
});

async function start(
  answer: (request: Seen) => Act,
  login: { login: string; secret: string; fingerprint?: string; signal?: AbortSignal } = TOKEN,
): Promise<{ host: FakeHost; engine: Engine; clock: TestClock; https: Https }> {
  const host = await startFakeHost(answer);
  const https = openHttps();
  const clock = new TestClock();
  const engine = openEngine({ https, clock }, { url: host.url, fingerprint: host.fingerprint, ...login });
  open.push(() => https.close(), host.close);
  return { host, engine, clock, https };
}

const failsWith = (code: string) => (error: unknown) => {
  assert.ok(error instanceof Failure, String(error));
  assert.equal(error.code, code, error.message);
  assert.ok(!JSON.stringify(error).includes(TOKEN.secret), "no secret in a failure");
  return true;
};

test("a server with another certificate is refused before a byte of HTTP is written", async () => {
  const pinned = `${"AA:".repeat(31)}AA`;
  const { host, engine } = await start(() => ({ data: null }), { ...TOKEN, fingerprint: pinned });
  await assert.rejects(engine.call("POST", ["nodes", "pve1", "lxc"], { vmid: 101 }), (error: unknown) => {
    failsWith("fingerprint-mismatch")(error);
    assert.ok(error instanceof Error && error.message.includes(host.fingerprint) && error.message.includes(pinned));
    return true;
  });
  assert.equal(host.plainBytes(), 0);
});

test("the fingerprint a server shows can be asked for before it is pinned", async () => {
  const { host, https } = await start(() => ({ data: null }));
  assert.equal(await https.peerFingerprint(host.url), host.fingerprint);
  assert.equal(host.plainBytes(), 0);
});

test("a POST whose connection is reset is sent once, and its outcome is called unknown", async () => {
  const { host, engine } = await start(() => "reset");
  await assert.rejects(engine.call("POST", ["nodes", "pve1", "lxc"], { vmid: 101 }), failsWith("outcome-unknown"));
  assert.equal(host.seen.length, 1);
});

test("a PUT that meets a failing proxy (596) is sent once, and its outcome is called unknown", async () => {
  const { host, engine } = await start(() => ({ status: 596, reason: "Connection timed out" }));
  await assert.rejects(engine.call("PUT", ["nodes", "pve1", "lxc", 101, "config"], {}), failsWith("outcome-unknown"));
  assert.equal(host.seen.length, 1);
});

test("a GET is asked again when its connection is reset, up to a bound", async () => {
  const { host, engine } = await start(() => (host.seen.length < READ_TRIES_MAX ? "reset" : { data: "fine" }));
  assert.equal(await engine.call("GET", ["version"]), "fine");
  assert.equal(host.seen.length, READ_TRIES_MAX);
  host.answer = () => "reset";
  await assert.rejects(engine.call("GET", ["version"]), failsWith("connection-lost"));
  assert.equal(host.seen.length, 2 * READ_TRIES_MAX);
});

test("a GET that meets a failing proxy (595) is asked again, a plain error is not", async () => {
  const { host, engine } = await start(() => (host.seen.length === 1 ? { status: 595, reason: "x" } : { data: 1 }));
  assert.equal(await engine.call("GET", ["version"]), 1);
  host.answer = () => ({ status: 500, reason: "CT 101 not running" });
  await assert.rejects(engine.call("GET", ["version"]), failsWith("container-stopped"));
  assert.equal(host.seen.length, 3);
});

test("a host that accepts and stays silent is left at the deadline", async () => {
  const { host, https } = await start(() => ({ data: null }));
  const request = { method: "GET", url: `${host.url}/x`, fingerprint: host.fingerprint, pooled: true };
  // Over a connection that is there, so that the time is the silence's alone.
  await https.request(request);
  host.answer = () => "silence";
  await assert.rejects(https.request({ ...request, deadlineMs: 200 }), failsWith("deadline-exceeded"));
});

test("nobody listening is unreachable, not unknown: nothing was sent", async () => {
  const { host, engine } = await start(() => "silence");
  await host.close();
  await assert.rejects(engine.call("POST", ["nodes", "pve1", "lxc"], {}), failsWith("unreachable"));
});

test("an answer longer than the bound is refused", async () => {
  const { host, https } = await start(() => ({ status: 200, body: "x".repeat(5_000) }));
  const request = { method: "GET", url: host.url, fingerprint: host.fingerprint, responseBytesMax: 4_000 };
  await assert.rejects(https.request(request), failsWith("response-too-large"));
});

test("an aborted signal ends a request that is under way", async () => {
  const abort = new AbortController();
  const { host, https } = await start(() => {
    abort.abort();
    return "silence";
  });
  const request = { method: "GET", url: host.url, fingerprint: host.fingerprint, signal: abort.signal };
  await assert.rejects(https.request(request), failsWith("cancelled-midway"));
});

test("reads share a kept connection, and each write has a fresh one that no idle time-out has closed meanwhile", async () => {
  const { host, engine } = await start(() => ({ data: null }));
  for (const method of ["GET", "GET", "POST", "GET", "DELETE"] as const) await engine.call(method, ["x"]);
  assert.deepEqual(
    host.seen.map(({ method, headers }) => `${method} ${headers.connection}`),
    ["GET keep-alive", "GET keep-alive", "POST close", "GET keep-alive", "DELETE close"],
  );
  assert.equal(host.connections(), 3);
});

test("a form has a Content-Length, no chunks, 1 and 0 for booleans, and nothing for undefined", async () => {
  const { host, engine } = await start(() => ({ data: null }));
  await engine.call("POST", ["nodes", "pve1", "lxc"], {
    vmid: 101,
    unprivileged: true,
    onboot: false,
    pool: undefined,
  });
  const [seen] = host.seen;
  assert.equal(seen?.body.toString(), "vmid=101&unprivileged=1&onboot=0");
  assert.equal(seen?.headers["content-length"], String(seen?.body.length));
  assert.equal(seen?.headers["transfer-encoding"], undefined);
  assert.equal(seen?.headers["content-type"], "application/x-www-form-urlencoded");
});

test("a DELETE carries its parameters in the query and no body", async () => {
  const { host, engine } = await start(() => ({ data: null }));
  await engine.call("DELETE", ["nodes", "pve1", "lxc", 101], { purge: true });
  const [seen] = host.seen;
  assert.deepEqual([seen?.query, seen?.body.length, seen?.headers["content-type"]], ["purge=1", 0, undefined]);
  assert.equal(seen?.headers["content-length"], undefined);
});

test("what stands in a path is escaped, also through the typed tree", async () => {
  const { host, engine } = await start(() => ({ data: [] }));
  const upid = "UPID:pve1:00001068:0004A0CC:6B02E98E:vzcreate:126:rm@pve!client:";
  await engine.call("GET", ["nodes", "pve1", "tasks", upid, "status"]);
  await proxmoxApi(engine).nodes.$("a/b ?#").lxc.$get();
  await assert.rejects(engine.call("GET", ["nodes", ".."]), failsWith("call-unknown"));
  assert.deepEqual(
    host.seen.map(({ path }) => path),
    [`/api2/json/nodes/pve1/tasks/${encodeURIComponent(upid)}/status`, "/api2/json/nodes/a%2Fb%20%3F%23/lxc"],
  );
});

test("a list is a repeated parameter", () => {
  assert.equal(encode({ a: ["x", "y z"], b: 1 }), "a=x&a=y+z&b=1");
});

test("a token goes into the Authorization header of every call", async () => {
  const { host, engine } = await start(() => ({ data: null }));
  await engine.call("PUT", ["nodes", "pve1", "lxc", 101, "config"], { memory: 512 });
  assert.equal(host.seen[0]?.headers.authorization, `PVEAPIToken=${TOKEN.login}=${TOKEN.secret}`);
});

const PASSWORD = { login: "root@pam", secret: "correct horse" };

/** Gives out tickets T1, T2, … and takes only the newest. */
function ticketHost() {
  let issued = 0;
  return (request: Seen): Act => {
    if (request.path === "/api2/json/access/ticket") {
      const form = new URLSearchParams(request.body.toString());
      if (form.get("password") !== PASSWORD.secret && form.get("password") !== `T${issued}`)
        return { status: 401, reason: "authentication failure", body: "" };
      issued++;
      return { data: { ticket: `T${issued}`, CSRFPreventionToken: `C${issued}`, username: "root@pam" } };
    }
    if (request.headers.cookie !== `PVEAuthCookie=T${issued}`) return { status: 401, reason: "Authentication failed!" };
    if (request.method !== "GET" && request.headers.csrfpreventiontoken !== `C${issued}`)
      return { status: 401, reason: "Permission denied - invalid csrf token" };
    return { data: "in" };
  };
}

test("a password buys one ticket for many calls, and writes carry its CSRF token", async () => {
  const { host, engine } = await start(ticketHost(), PASSWORD);
  await engine.call("GET", ["version"]);
  assert.equal(await engine.call("POST", ["access", "roles"], {}), "in");
  assert.deepEqual(
    host.seen.map(({ method, path }) => `${method} ${path.slice(10)}`),
    ["POST /access/ticket", "GET /version", "POST /access/roles"],
  );
});

test("calls that begin together share one login", async () => {
  const { host, engine } = await start(ticketHost(), PASSWORD);
  await Promise.all(["version", "nodes", "pools"].map((path) => engine.call("GET", [path])));
  assert.equal(host.seen.filter(({ path }) => path.endsWith("/access/ticket")).length, 1);
});

test("a ticket is renewed with itself before its two hours are over", async () => {
  const { host, engine, clock } = await start(ticketHost(), PASSWORD);
  await engine.call("GET", ["version"]);
  clock.advance(HOUR + 35 * MINUTE);
  await engine.call("POST", ["access", "roles"], {});
  const logins = host.seen.filter(({ path }) => path.endsWith("/access/ticket"));
  assert.deepEqual(
    logins.map(({ body }) => new URLSearchParams(body.toString()).get("password")),
    [PASSWORD.secret, "T1"],
  );
});

test("a ticket that the host forgot is replaced once, for a GET only", async () => {
  const { host, engine } = await start(ticketHost(), PASSWORD);
  await engine.call("GET", ["version"]);
  host.answer = ticketHost();
  assert.equal(await engine.call("GET", ["version"]), "in");
  host.answer = (request) =>
    request.path.endsWith("ticket") ? { data: { ticket: "X" } } : { status: 401, reason: "Authentication failed!" };
  const before = host.seen.length;
  await assert.rejects(engine.call("POST", ["access", "roles"], {}), failsWith("login-refused"));
  assert.equal(host.seen.length, before + 1);
});

test("a wrong password is refused without being quoted", async () => {
  const { engine } = await start(ticketHost(), { login: "root@pam", secret: "battery staple" });
  await assert.rejects(engine.call("GET", ["version"]), (error: unknown) => {
    failsWith("login-refused")(error);
    return !JSON.stringify(error).includes("battery");
  });
});

test("a login that wants a second factor is told to use a token", async () => {
  const answer = (): Act => ({ data: { ticket: "PVE:tfa!x", CSRFPreventionToken: "C", NeedTFA: 1 } });
  const { engine } = await start(answer, PASSWORD);
  await assert.rejects(engine.call("GET", ["version"]), failsWith("second-factor-required"));
});

test("a page of HTML with status 200 is not taken for an answer", async () => {
  const { engine } = await start(() => ({ status: 200, body: "<html>log in</html>" }));
  await assert.rejects(engine.call("GET", ["version"]), failsWith("pve-reply-unexpected"));
});
