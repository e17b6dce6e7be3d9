import assert from "node:assert/strict";
import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { afterEach, test } from "node:test";
import { addHost, type HostAddWorld, hostUrl } from "../../src/cli/hostadd.js";
import { hostCheck } from "../../src/cli/hostcheck.js";
import { hostList, hostRemove } from "../../src/cli/hostlist.js";
import { openHost } from "../../src/cli/hosts.js";
import { Failure } from "../../src/kit/failure.js";
import type { Finding } from "../../src/provision/preflight/finding.js";
import { ROLES } from "../../src/pve/permissions.js";
import { openHttps } from "../../src/sys/https.js";
import type { Prompt } from "../../src/sys/prompt.js";
import { type FakeHost, startFakeHost } from "../pve/fakehost.js";
import { type Home, makeHome, type Rights, smallPve } from "./hostworld.js";

const SECRET = "11111111-2222-3333-4444-555555555555";
const TOKEN = "exitnode@pve!cli";
const ALL: Rights = {
  "/vms": ROLES.ExitnodeGuests,
  "/storage/local": ROLES.ExitnodeStorage,
  "/storage/tank": ROLES.ExitnodeStorage,
  "/sdn/zones/localnetwork/vmbr0": ROLES.ExitnodeNetwork,
  "/nodes/pve1": ROLES.ExitnodeNode,
};

const open: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const close of open.splice(0)) await close();
});

async function start(rights: Rights = ALL, data?: Record<string, unknown>): Promise<{ home: Home; host: FakeHost }> {
  const host = await startFakeHost(smallPve(`PVEAPIToken=${TOKEN}=${SECRET}`, rights, data));
  const home = makeHome();
  open.push(host.close, home.remove);
  return { home, host };
}

function world(prompt?: Partial<Prompt>): HostAddWorld {
  const https = openHttps();
  open.push(() => https.close());
  const unasked = (): never => assert.fail("this was not to be asked");
  const full: Prompt = { text: unasked, secret: unasked, confirm: unasked, choose: unasked, ...prompt };
  return { https, prompt: prompt === undefined ? undefined : full, secretFromStdin: async () => SECRET };
}

const add = (home: Home, host: FakeHost, options: Record<string, string | boolean> = {}, env = {}) =>
  addHost(
    home.call(["pve1"], { url: host.url, token: TOKEN, fingerprint: host.fingerprint, ...options }, env),
    world(),
  );

test("a host is kept with its secret apart, in a file that others cannot read", async () => {
  const { home, host } = await start();
  const outcome = await add(home, host, { secretStdin: true });
  assert.deepEqual(outcome.value, {
    name: "pve1",
    url: host.url,
    fingerprint: host.fingerprint,
    login: TOKEN,
    pveNode: "pve1",
    version: "9.2.11",
    replaced: false,
  });
  assert.equal(statSync(join(home.folder, "credentials.yaml")).mode & 0o777, 0o600);
  assert.ok(!readFileSync(join(home.folder, "config.yaml"), "utf8").includes(SECRET));
  const opened = await openHost(home.call([]).parts, "pve1");
  assert.equal((await opened.pve.version()).version, "9.2.11");
  opened.pve.close();
});

test("without a terminal, a certificate that nobody confirmed stops the add, and the advice names its fingerprint", async () => {
  const { home, host } = await start();
  const call = home.call(["pve1"], { url: host.url, token: TOKEN, secretStdin: true });
  await assert.rejects(addHost(call, world()), (error: unknown) => {
    assert.ok(error instanceof Failure && error.code === "fingerprint-unconfirmed");
    assert.ok(error.advice?.endsWith(`exitnode host add pve1 --url ${host.url} --fingerprint ${host.fingerprint}`));
    return true;
  });
  assert.equal(host.plainBytes(), 0, "no secret left this machine");
});

test("a certificate that the person does not recognise ends the add before the secret is asked for", async () => {
  const { home, host } = await start();
  const call = home.call(["pve1"], { url: host.url, token: TOKEN });
  await assert.rejects(addHost(call, world({ confirm: async () => false })), { code: "fingerprint-mismatch" });
  assert.ok(home.said.some((line) => line.includes(host.fingerprint)));
  assert.equal(host.plainBytes(), 0);
});

test("on a terminal, everything that was not given is asked for", async () => {
  const { home, host } = await start();
  const answers = [host.url, TOKEN];
  const prompt: Partial<Prompt> = {
    text: async () => answers.shift() ?? assert.fail("one question too many"),
    choose: async (_question, choices) => choices[1]?.value ?? assert.fail("no choice"),
    confirm: async () => true,
    secret: async () => SECRET,
  };
  const outcome = await addHost(home.call(["pve1"]), world(prompt));
  assert.match(outcome.text, /^added pve1: Proxmox VE 9\.2\.11 .*\nnext: exitnode host check pve1$/);
});

test("on a terminal, a mistyped secret alone is asked for again, three times in all", async () => {
  const { home, host } = await start();
  for (const { typed, code } of [
    { typed: ["wrong", SECRET], code: undefined },
    { typed: ["wrong", "wrong", "wrong"], code: "login-refused" },
  ]) {
    const answers = [...typed];
    const secret = async (): Promise<string> => answers.shift() ?? assert.fail("one question too many");
    const added = addHost(
      home.call(["pve1"], { url: host.url, token: TOKEN, fingerprint: host.fingerprint }),
      world({ secret }),
    );
    if (code === undefined) await added;
    else await assert.rejects(added, { code });
    assert.deepEqual(answers, []);
  }
});

test("a wrong secret keeps nothing and is not quoted", async () => {
  const { home, host } = await start();
  await assert.rejects(add(home, host, {}, { EXITNODE_SECRET: "wrong-one" }), (error: unknown) => {
    assert.ok(error instanceof Failure && error.code === "login-refused");
    return !JSON.stringify(error).includes("wrong-one");
  });
  assert.equal((await hostList(home.call([]))).text, "no hosts yet: exitnode host add <name>");
});

for (const { name, options, code } of [
  { name: "an empty token id", options: { token: "" }, code: "usage" },
  { name: "a token and a user", options: { user: "root@pam" }, code: "usage" },
  { name: "a token without an id", options: { token: "rm@pve" }, code: "usage" },
  { name: "a PVE node that is not there", options: { secretStdin: true, pveNode: "pve9" }, code: "pve-node-unknown" },
  { name: "no secret", options: {}, code: "secret-missing" },
  { name: "half a fingerprint", options: { fingerprint: "AA:BB" }, code: "usage" },
  { name: "plain HTTP", options: { url: "http://192.168.1.10:8006" }, code: "url-invalid" },
  { name: "a token that is to make a token", options: { bootstrap: true }, code: "usage" },
]) {
  test(`an add with ${name} is refused as ${code}`, async () => {
    const { home, host } = await start();
    await assert.rejects(add(home, host, options), { code });
  });
}

for (const [text, url] of [
  ["192.168.1.10", "https://192.168.1.10:8006"],
  ["https://pve1.home", "https://pve1.home:8006"],
  ["https://pve1.home:443/", "https://pve1.home:443"],
  ["https://[fd00::1]", "https://[fd00::1]:8006"],
] as const) {
  test(`"${text}" is taken as ${url}`, () => assert.equal(hostUrl(text), url));
}

test("added again, the host is replaced and keeps its defaults", async () => {
  const { home, host } = await start();
  await add(home, host, { secretStdin: true, pool: "exits" });
  const outcome = await add(home, host, { secretStdin: true });
  assert.match(outcome.text, /^replaced pve1/);
  assert.equal((await openHost(home.call([]).parts, "pve1")).entry.defaults.pool, "exits");
});

test("a removed host leaves neither entry nor secret", async () => {
  const { home, host } = await start();
  await add(home, host, { secretStdin: true });
  await hostRemove(home.call(["pve1"]));
  assert.ok(!readFileSync(join(home.folder, "credentials.yaml"), "utf8").includes(SECRET));
  await assert.rejects(hostRemove(home.call(["pve1"])), { code: "host-unknown" });
});

test("a host that is not in the config is answered with those that are", async () => {
  const { home, host } = await start();
  await add(home, host, { secretStdin: true });
  await assert.rejects(openHost(home.call([]).parts, "pve9"), (error: unknown) => {
    assert.ok(error instanceof Failure && error.code === "host-unknown");
    assert.equal(error.message, 'there is no host "pve9": expected one of pve1');
    return error.advice === "exitnode host list";
  });
});

test("a host's own variable goes before the file, and the general one after it", async () => {
  const { home, host } = await start();
  await add(home, host, { secretStdin: true });
  const wrong = await openHost(home.call([], {}, { EXITNODE_SECRET_PVE1: "wrong" }).parts, "pve1");
  await assert.rejects(wrong.pve.version(), (error: unknown) => {
    assert.ok(error instanceof Failure && error.code === "login-refused");
    return error.advice?.startsWith(`exitnode host add pve1 --url ${wrong.entry.url} --token '`) === true;
  });
  const right = await openHost(home.call([], {}, { EXITNODE_SECRET: "wrong" }).parts, "pve1");
  assert.equal((await right.pve.version()).release, "9.2");
  right.pve.close();
});

const severities = (value: unknown) =>
  Object.fromEntries((value as { findings: Finding[] }).findings.map(({ name, severity }) => [name, severity]));

test("the only host is the one that is checked when none is named", async () => {
  const { home, host } = await start();
  await add(home, host, { secretStdin: true });
  assert.equal(((await hostCheck(home.call([]))).value as { host: string }).host, "pve1");
});

test("a host with everything passes every check, in the storage and on the bridge that create would take", async () => {
  const { home, host } = await start();
  await add(home, host, { secretStdin: true });
  const outcome = await hostCheck(home.call(["pve1"]));
  assert.equal(outcome.exitCode, undefined);
  assert.deepEqual(new Set(Object.values(severities(outcome.value))), new Set(["fine"]));
  assert.match(outcome.text, /container storage +ok +tank \(zfspool\), 55\.9 GiB free/);
  assert.match(outcome.text, /bridge +ok +vmbr0 \(198\.18\.77\.10\/24\)/);
});

test("a bare token is told every missing privilege at once, with the lines, and exit code 1", async () => {
  const { home, host } = await start({ "/nodes/pve1": [] }, { "/nodes/pve1/storage": [] });
  await add(home, host, { secretStdin: true });
  const outcome = await hostCheck(home.call(["pve1"]));
  assert.equal(outcome.exitCode, 1);
  const { permissions, "container storage": storage, "for upgrades": upgrades, bridge } = severities(outcome.value);
  assert.deepEqual([permissions, storage, upgrades, bridge], ["stops", undefined, "warns", "fine"]);
  const lines = outcome.text.split("\n").filter((line) => line.startsWith("  pveum"));
  assert.equal(new Set(lines).size, lines.length, "no line is shown twice");
  for (const path of ["/vms", "/storage/local", "/sdn/zones/localnetwork/vmbr0", "/nodes/pve1"])
    assert.match(
      outcome.text,
      new RegExp(`pveum acl modify ${path} --roles Exitnode\\w+ --users exitnode@pve --tokens 'exitnode@pve!cli'`),
    );
});

for (const { name, data, check } of [
  { name: "Proxmox VE 7", data: { "/version": { version: "7.4-3" } }, check: "version" },
  { name: "an offline PVE node", data: { "/nodes": [{ node: "pve1", status: "offline" }] }, check: "PVE node" },
  {
    name: "a bridge that is down",
    data: { "/nodes/pve1/network": [{ iface: "vmbr0", type: "bridge", active: 0 }] },
    check: "bridge",
  },
  {
    name: "no storage for containers",
    data: { "/nodes/pve1/storage": [{ storage: "local", content: "vztmpl", active: 1, avail: 9e9 }] },
    check: "container storage",
  },
]) {
  test(`${name} stops at "${check}"`, async () => {
    const { home, host } = await start(ALL, data);
    const add1 = add(home, host, { secretStdin: true });
    await add1;
    const outcome = await hostCheck(home.call(["pve1"]));
    assert.deepEqual([severities(outcome.value)[check], outcome.exitCode], ["stops", 1]);
  });
}

test("a host whose certificate changed stops at the certificate, and nothing is sent to it", async () => {
  const { home, host } = await start();
  await add(home, host, { secretStdin: true });
  const config = join(home.folder, "config.yaml");
  const { parts } = home.call([]);
  await parts.files.write(config, readFileSync(config, "utf8").replace(host.fingerprint, `${"AA:".repeat(31)}AA`));
  const before = host.plainBytes();
  const outcome = await hostCheck(home.call(["pve1"]));
  assert.deepEqual([severities(outcome.value), outcome.exitCode], [{ certificate: "stops" }, 1]);
  assert.equal(host.plainBytes(), before);
});
