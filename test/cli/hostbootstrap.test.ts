import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, test } from "node:test";
import { addHost, type HostAddWorld } from "../../src/cli/hostadd.js";
import { tokenNameOf } from "../../src/cli/hostbootstrap.js";
import { hostCheck } from "../../src/cli/hostcheck.js";
import { hostOf, openHost } from "../../src/cli/hosts.js";
import { Failure } from "../../src/kit/failure.js";
import { hashPassword } from "../../src/lab/pve/accounts.js";
import { readCertificate } from "../../src/lab/pve/certificate.js";
import { openPve, type Pve } from "../../src/lab/pve/pve.js";
import { closePve, listenPve } from "../../src/lab/pve/server.js";
import type { Finding } from "../../src/provision/preflight/finding.js";
import { openHttps } from "../../src/sys/https.js";
import type { Prompt } from "../../src/sys/prompt.js";
import { ModelRuntime } from "../lab/pvemodel.js";
import { startFakeHost } from "../pve/fakehost.js";
import { type Home, makeHome } from "./hostworld.js";

/** `host add --bootstrap` and `host check` against the lab's Proxmox API in this process; no container is made. */
const folder = mkdtempSync(join(tmpdir(), "exn-bootstrap-"));
const TOKEN = tokenNameOf(hostname());
const PASSWORD = "correct horse battery";
let pve: Pve;
let at: { readonly url: string; readonly fingerprint: string };
let close: () => Promise<void>;

before(async () => {
  const storageDir = join(folder, "storage");
  mkdirSync(storageDir);
  const certificate = await readCertificate(folder, "pve1");
  const { fingerprint } = certificate;
  pve = openPve({
    nodeName: "pve1",
    stateDir: folder,
    storageDir,
    runtime: new ModelRuntime(),
    fingerprint,
    address: "127.0.0.1",
  });
  const root = pve.accounts.users["root@pam"];
  assert.ok(root !== undefined);
  root.password = hashPassword(PASSWORD);
  const server = await listenPve(pve, { certificate, address: "127.0.0.1", port: 0, delayMs: 0 });
  at = { url: `https://127.0.0.1:${(server.address() as AddressInfo).port}`, fingerprint };
  close = () => closePve(pve, server);
});
after(async () => {
  await close();
  rmSync(folder, { recursive: true, force: true });
});

const open: (() => void)[] = [];
afterEach(() => {
  for (const one of open.splice(0)) one();
});

function home(): Home {
  const made = makeHome();
  open.push(made.remove);
  return made;
}

function world(prompt?: Partial<Prompt>): HostAddWorld {
  const https = openHttps();
  open.push(() => https.close());
  const unasked = (): never => assert.fail("this was not to be asked");
  const full: Prompt = { text: unasked, secret: unasked, confirm: unasked, choose: unasked, ...prompt };
  return { https, prompt: prompt === undefined ? undefined : full, secretFromStdin: async () => PASSWORD };
}

const bootstrap = (of: Home, options: Record<string, string | boolean> = {}, prompt?: Partial<Prompt>) =>
  addHost(of.call(["pve1"], { ...at, bootstrap: true, passwordStdin: true, ...options }), world(prompt));

const accounts = (): string =>
  JSON.stringify([pve.accounts.roles, pve.accounts.users, pve.accounts.acl, pve.accounts.pools]);

/** Everything below a folder, by path. */
function filesBelow(path: string): Map<string, string> {
  const found = new Map<string, string>();
  for (const name of readdirSync(path, { recursive: true, encoding: "utf8" }))
    if (statSync(join(path, name)).isFile()) found.set(name, readFileSync(join(path, name), "utf8"));
  return found;
}

test("--dry-run prints the pveum lines for pool, roles, user, token and rules, and changes and keeps nothing", async () => {
  const mine = home();
  const before = accounts();
  const outcome = await bootstrap(mine, { dryRun: true });
  for (const line of [
    /^ {2}pveum pool add exitnode$/m,
    /^ {2}pveum role add ExitnodeGuests --privs "Pool\.Audit VM\.Allocate /m,
    /^ {2}pveum user add exitnode@pve --comment /m,
    new RegExp(`^ {2}pveum user token add exitnode@pve ${TOKEN} --privsep 1$`, "m"),
    /^ {2}pveum acl modify \/pool\/exitnode --roles ExitnodeGuests --users 'exitnode@pve'$/m,
    new RegExp(`^ {2}pveum acl modify /storage/local --roles ExitnodeStorage --tokens 'exitnode@pve!${TOKEN}'$`, "m"),
  ])
    assert.match(outcome.text, line);
  assert.equal(accounts(), before);
  assert.equal(filesBelow(mine.folder).size, 0);
});

test("a token is called after its machine, in the letters Proxmox takes, and no longer than 48", () => {
  for (const [machine, name] of [
    ["annas-laptop", "cli-annas-laptop"],
    ["pi_2.fritz.box", "cli-pi_2.fritz.box"],
    ["Ünï's Mac.", "cli--n-s-Mac"],
    ["", "cli"],
    ["-".repeat(99), "cli"],
    ["x".repeat(99), `cli-${"x".repeat(44)}`],
  ] as const)
    assert.equal(tokenNameOf(machine), name);
});

test("without --yes and without a terminal nothing is done; a person who says no is obeyed", async () => {
  const mine = home();
  const before = accounts();
  await assert.rejects(bootstrap(mine), { code: "unconfirmed" });
  await assert.rejects(bootstrap(mine, {}, { confirm: async () => false }), { code: "cancelled" });
  assert.ok(mine.said.includes("to do: make the pool exitnode, for the exit nodes' containers"));
  assert.equal(accounts(), before);
  assert.equal(filesBelow(mine.folder).size, 0);
});

test("a bootstrap keeps the token it made; root's password is in no file and no word, the secret in one file", async () => {
  const mine = home();
  const outcome = await bootstrap(mine, { yes: true });
  const opened = await openHost(mine.call([]).parts, "pve1");
  assert.equal(opened.entry.login, `exitnode@pve!${TOKEN}`);
  assert.equal(opened.entry.defaults.pool, "exitnode");
  assert.deepEqual(await opened.pve.pools(), ["exitnode"]);
  assert.ok((await opened.pve.permissions(["/pool/exitnode"])).get("/pool/exitnode")?.has("VM.Allocate"));
  assert.equal((await opened.pve.permissions(["/vms"])).get("/vms")?.size, 0, "no other container is its business");
  opened.pve.close();
  const files = filesBelow(mine.folder);
  const secret = /secret: (\S+)/.exec(files.get("credentials.yaml") ?? "")?.[1] ?? assert.fail("no secret was kept");
  const check = await hostCheck(mine.call(["pve1"]));
  const words = [outcome, check, mine.said].map((one) => JSON.stringify(one)).join("\n");
  for (const [name, text] of files) {
    assert.ok(!text.includes(PASSWORD), `${name} holds the password`);
    assert.ok(name === "credentials.yaml" || !text.includes(secret), `${name} holds the token's secret`);
  }
  assert.ok(!words.includes(PASSWORD) && !words.includes(secret));
});

test("on a terminal, the first way offered takes root's password once and keeps a token", async () => {
  const mine = home();
  const prompt: Partial<Prompt> = {
    choose: async (_question, choices) => choices[0]?.value ?? assert.fail("no choice"),
    confirm: async () => true,
    secret: async () => PASSWORD,
  };
  await addHost(mine.call(["pve1"], at), world(prompt));
  const { parts } = mine.call([]);
  assert.equal((await hostOf(parts, "pve1")).login, `exitnode@pve!${TOKEN}`);
  for (const [name, text] of filesBelow(mine.folder)) assert.ok(!text.includes(PASSWORD), `${name} holds the password`);
});

test("a wrong address is told before the login is asked for", async () => {
  const call = home().call(["pve1"], { url: "https://127.0.0.1:1" });
  await assert.rejects(addHost(call, world({})), { code: "unreachable" });
});

test("again, everything stays but the token, which is made anew, and the one before it is no longer let in", async () => {
  const mine = home();
  await bootstrap(mine, { yes: true });
  const first = await openHost(mine.call([]).parts, "pve1");
  // A host that is kept needs neither URL nor fingerprint again.
  const again = mine.call(["pve1"], { bootstrap: true, yes: true, passwordStdin: true });
  mine.said.length = 0;
  assert.match((await addHost(again, world())).text, /^replaced pve1/);
  assert.equal(mine.said[0], `to do: replace the API token exitnode@pve!${TOKEN}`);
  await assert.rejects(first.pve.nodes(), { code: "login-refused" });
  first.pve.close();
});

test("a bootstrapped host lacks no right in `host check`", async () => {
  const mine = home();
  await bootstrap(mine, { yes: true });
  const { findings } = (await hostCheck(mine.call(["pve1"]))).value as { findings: Finding[] };
  for (const name of ["permissions", "for upgrades", "pool"])
    assert.equal(findings.find((one) => one.name === name)?.severity, "fine", name);
  assert.ok(!findings.some(({ name }) => name === "for diagnosis"));
});

for (const { title, env, prompt } of [
  { title: "asked for on a terminal", env: {}, prompt: { secret: async () => "123456", confirm: async () => true } },
  { title: "from EXITNODE_TOTP", env: { EXITNODE_TOTP: "123456" }, prompt: undefined },
])
  test(`a root login with a second factor works with the code ${title}, which takes the password's place`, async () => {
    const host = await startFakeHost(({ path, body }) => {
      if (!path.endsWith("/access/ticket")) return { data: path.endsWith("/version") ? { version: "9.2.11" } : [] };
      const form = new URLSearchParams(body.toString());
      if (form.get("password") === PASSWORD) return { data: { ticket: "PVE:!tfa!half", NeedTFA: 1 } };
      const whole = form.get("password") === "totp:123456" && form.get("tfa-challenge") === "PVE:!tfa!half";
      return whole ? { data: { ticket: "PVE:root@pam:whole", CSRFPreventionToken: "c" } } : { status: 401 };
    });
    try {
      const options = {
        url: host.url,
        fingerprint: host.fingerprint,
        bootstrap: true,
        dryRun: true,
        passwordStdin: true,
      };
      const call = home().call(["pve1"], options, env);
      // This host names no PVE node: what counts is that the login got that far.
      await assert.rejects(addHost(call, world(prompt)), { code: "pve-node-unknown" });
      assert.match(host.seen.at(-1)?.headers.cookie ?? "", /whole/);
    } finally {
      await host.close();
    }
  });

test("a second factor that nobody can give is a Failure that says where to put the code", async () => {
  const host = await startFakeHost(() => ({ data: { ticket: "PVE:!tfa!half", NeedTFA: 1 } }));
  try {
    const options = { url: host.url, fingerprint: host.fingerprint, bootstrap: true, passwordStdin: true };
    await assert.rejects(addHost(home().call(["pve1"], options), world()), (error: unknown) => {
      assert.ok(error instanceof Failure && error.code === "second-factor-required");
      return !`${error.message}${error.advice}`.includes(PASSWORD) && /EXITNODE_TOTP/.test(error.advice ?? "");
    });
  } finally {
    await host.close();
  }
});
