import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { text } from "node:stream/consumers";
import { after, beforeEach, test } from "node:test";
import { fileURLToPath } from "node:url";
import { commands } from "../../src/cli/commands.js";
import { keyOf } from "../../src/kit/key.js";

/** The program as people and scripts run it: a process with arguments, two streams and an exit code. Run as root. */
const main = join(dirname(fileURLToPath(import.meta.url)), "../../src/main.js");
const base = mkdtempSync(join(tmpdir(), "exn-program-"));
after(() => rmSync(base, { recursive: true, force: true }));
let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(base, "at-"));
});

type Ended = { readonly code: number | null; readonly stdout: string; readonly stderr: string };

/** A user without any right but to read this checkout, wherever it lies. */
const AS_NOBODY = "setpriv --reuid=65534 --regid=65534 --clear-groups --bounding-set=-all,+dac_read_search"
  .concat(" --inh-caps=-all,+dac_read_search --ambient-caps=-all,+dac_read_search")
  .split(" ");
const LIMIT_MS = 60_000;

async function run(
  line: string,
  options: { as?: readonly string[]; env?: Record<string, string> } = {},
): Promise<Ended> {
  const [file = "", ...args] = [...(options.as ?? []), process.execPath, main, ...line.split(" ")];
  const child = spawn(file, args, {
    stdio: ["ignore", "pipe", "pipe"],
    timeout: LIMIT_MS,
    env: {
      PATH: process.env.PATH,
      HOME: folder,
      EXITNODE_CONFIG: join(folder, "config"),
      EXITNODE_ETC: join(folder, "etc"),
      EXITNODE_VAR: join(folder, "var"),
      EXITNODE_RUN: join(folder, "run"),
      ...options.env,
    },
  });
  const code = new Promise<number | null>((resolve) => child.on("close", resolve));
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)]);
  return { code: await code, stdout, stderr };
}

type Told = { readonly code: string; readonly message: string; readonly advice?: string };

/** The one line of a failure under --json, and that there is nothing beside it. */
function failureOf({ code, stdout, stderr }: Ended, exitCode = 1): Told {
  assert.equal(code, exitCode, stdout + stderr);
  assert.match(stdout, /^\{.*\}\n$/);
  assert.doesNotMatch(stderr, /^[{[]/m, "no JSON on stderr");
  const { error, ...rest } = JSON.parse(stdout) as { error: Told };
  assert.deepEqual(rest, {});
  assert.match(error.code, /^[a-z0-9-]+$/);
  assert.equal(typeof error.message, "string");
  return error;
}

const SECRET = "S3CR3Tq9ZxW7vU5tR3pN1mL9kJ7hG5fD3sA1";
const TOKEN = "T0K3Nq9ZxW7vU5tR3pN1mL9kJ7hG5fD3sA1xy";
const FINGERPRINT = `${"AB:".repeat(31)}CD`;
const CONFIG = `hosts:
  pve1:
    url: https://127.0.0.1:1
    fingerprint: ${FINGERPRINT}
    login: exitnode@pve!cli
  pve2:
    url: https://127.0.0.1:1
    fingerprint: ${FINGERPRINT}
    login: root@pam
coordinator:
  urls: ["https://127.0.0.1:1"]
  adminUrls: ["https://127.0.0.1:1"]
  publicKey: ${keyOf(new Uint8Array(32).fill(7))}
  tlsFingerprint: ${FINGERPRINT}
`;
const CREDENTIALS = `hosts:
  pve1:
    secret: ${SECRET}
  pve2:
    secret: ${SECRET}
coordinator:
  adminToken: ${TOKEN}
`;

function configure(config = CONFIG, credentials = CREDENTIALS): void {
  mkdirSync(join(folder, "config"), { recursive: true });
  writeFileSync(join(folder, "config/config.yaml"), config);
  writeFileSync(join(folder, "config/credentials.yaml"), credentials, { mode: 0o600 });
}

test("a reader that has had enough ends nothing with a stack trace", async () => {
  const child = spawn(process.execPath, [main, "man"], { stdio: ["ignore", "pipe", "pipe"], timeout: LIMIT_MS });
  child.stdout.destroy();
  const code = new Promise<number | null>((resolve) => child.on("close", resolve));
  assert.deepEqual([await text(child.stderr), await code], ["", 0]);
});

test("--help exits 0 and lists every command that is not hidden, and no other", async () => {
  const { code, stdout, stderr } = await run("--help");
  assert.equal(code, 0);
  assert.equal(stderr, "");
  const listed = [...stdout.matchAll(/^ {2}([a-z]+)\b/gm)].map(([, word]) => word);
  const words = commands.filter(({ hidden }) => hidden !== true).map(({ usage }) => usage.split(" ")[0]);
  assert.deepEqual(new Set(listed), new Set([...words, "help"]));
});

test("--help names every subcommand that is not hidden beside its group", async () => {
  const { stdout } = await run("--help");
  const help = stdout.replaceAll(/\n {6,}/g, " ");
  for (const { usage, hidden } of commands) {
    const [group = "", word] = usage.split(" ").filter((one) => !/^[<[]/.test(one));
    const line = help.match(new RegExp(`^  ${group} .*: (.*)$`, "m"))?.[1];
    if (word === undefined || line === undefined || /^(?:relay|audit)$/.test(group)) continue;
    assert.equal(line.split(", ").includes(word), hidden !== true, usage);
  }
});

for (const line of ["dance", "host list --dance", "host add", "host", ""])
  test(`"exitnode ${line}" is wrong usage: exit code 2, and nothing on stdout`, async () => {
    const { code, stdout, stderr } = await run(line);
    assert.equal(code, 2, stderr);
    assert.equal(stdout, "");
    assert.notEqual(stderr, "");
  });

for (const line of ["dance --json", "host list --dance --json", "host add --json"])
  test(`"exitnode ${line}" tells a script what is wrong as it tells any failure`, async () => {
    const { code, message } = failureOf(await run(line), 2);
    assert.equal(code, "usage");
    assert.match(message, /^(unknown|missing)/);
  });

test("--json prints a result as exactly one line, and nothing else", async () => {
  configure();
  const { code, stdout, stderr } = await run("host list --json");
  assert.equal(code, 0);
  assert.equal(stderr, "");
  assert.match(stdout, /^\{.*\}\n$/);
  const hosts = [
    { name: "pve1", url: "https://127.0.0.1:1", login: "exitnode@pve!cli" },
    { name: "pve2", url: "https://127.0.0.1:1", login: "root@pam" },
  ];
  assert.deepEqual(JSON.parse(stdout), { hosts });
});

test("without --json, a failure is for people: words and advice on stderr, nothing on stdout", async () => {
  const { code, stdout, stderr } = await run("use home");
  assert.equal(code, 1);
  assert.equal(stdout, "");
  assert.equal(stderr, "exitnode: no agent runs on this machine [agent-not-running]\n  → exitnode up --join KEY\n");
});

for (const { name, config, credentials, says } of [
  {
    name: "config",
    config: CONFIG.replace("root@pam", "root"),
    credentials: CREDENTIALS,
    says: /config\.yaml line 9: /,
  },
  { name: "config that is no YAML", config: `${CONFIG}: [`, credentials: CREDENTIALS, says: /config\.yaml line 1\d: / },
  {
    name: "config with an alias of nothing",
    config: "hosts: *all\n",
    credentials: CREDENTIALS,
    says: /line 1: an alias/,
  },
  {
    name: "credentials file",
    config: CONFIG,
    credentials: `hosts: {pve1: {secret:${SECRET}}}\n`,
    says: /credentials\.yaml line 1: /,
  },
  {
    name: "credentials file with a list for a key",
    config: CONFIG,
    credentials: `? [${SECRET}]\n: x\n`,
    says: /credentials\.yaml line 1: /,
  },
])
  test(`a corrupted ${name} is told with file and line, quoting no secret`, async () => {
    configure(config, credentials);
    const ended = await run("host check pve1 --json");
    const { code, message, advice } = failureOf(ended);
    assert.equal(code, "config-invalid");
    assert.match(message, says);
    assert.match(advice ?? "", /^correct line \d+ of /);
    assert.ok(!`${ended.stdout}${ended.stderr}`.includes(SECRET));
  });

for (const line of ["host check", "host remove"])
  test(`"${line}" of an unknown host names the known ones`, async () => {
    configure();
    const { code, message, advice } = failureOf(await run(`${line} pve9 --json`));
    assert.equal(code, "host-unknown");
    assert.match(message, /"pve9": expected one of pve1, pve2$/);
    assert.equal(advice, "exitnode host list");
  });

test("create on an unknown host names the known ones", async () => {
  configure();
  const { code, message } = failureOf(await run("create --host pve9 --json"));
  assert.equal(code, "host-unknown");
  assert.match(message, /pve1, pve2/);
});

for (const { hosts, config, code, says } of [
  { hosts: "no host", config: "", code: "usage", says: /^expected --url: / },
  {
    hosts: "one host",
    config: CONFIG.replace(/ {2}pve2:(?:\n {4}.*)+\n/, ""),
    code: "unreachable",
    says: /127\.0\.0\.1:1/,
  },
  { hosts: "two hosts", config: CONFIG, code: "usage", says: /^expected --host with one of pve1, pve2$/ },
])
  test(`setup without --host and --url, with ${hosts} in the config, ends with ${code}`, async () => {
    configure(config);
    const told = failureOf(await run("setup --json"), code === "usage" ? 2 : 1);
    assert.equal(told.code, code);
    assert.match(told.message, says);
  });

test("a file that is no backup is refused before the coordinator is looked for", async () => {
  configure();
  const told = failureOf(await run(`coordinator restore ${folder}/config/config.yaml --yes --json`));
  assert.equal(told.code, "backup-invalid");
});

test("a backup without a coordinator here says which hosts could not be asked for one, and writes nothing", async () => {
  configure();
  const told = failureOf(await run(`coordinator backup ${folder}/network.db --json`));
  assert.equal(told.code, "coordinator-elsewhere");
  assert.match(told.message, /pve1 was not asked: .*pve2 was not asked: /);
  assert.ok(!existsSync(join(folder, "network.db")));
});

test("credentials are written readable by their owner alone, whatever they were before", async () => {
  configure();
  const path = join(folder, "config/credentials.yaml");
  rmSync(path);
  writeFileSync(path, CREDENTIALS, { mode: 0o644 });
  assert.equal((await run("host remove pve2 --json")).code, 0);
  assert.equal((statSync(path).mode & 0o777).toString(8), "600");
  assert.doesNotMatch(readFileSync(path, "utf8"), /pve2/);
});

test("no command that fails prints a secret, in words, as JSON or when debugging", async () => {
  configure();
  const lines = ["host check pve1", "create --host pve1 --yes", "plan --host pve2", "list", "status home", "logs home"];
  lines.push("destroy home --yes", "key create", "device list", "device revoke laptop", "host check pve9", "up --join");
  const env = { EXITNODE_DEBUG: "1", EXITNODE_SECRET: `${SECRET}-too`, EXITNODE_JOIN_KEY: `exnkey1-${SECRET}` };
  let failed = 0;
  for (const line of lines.flatMap((one) => [one, `${one} --json`])) {
    const { code, stdout, stderr } = await run(line, { env });
    if (code !== 0) failed++;
    for (const secret of [SECRET, TOKEN])
      assert.ok(!`${stdout}${stderr}`.includes(secret), `${line}: ${stdout}${stderr}`);
  }
  assert.ok(failed > lines.length, "most of them fail, with no host and no coordinator there");
});

for (const line of ["up", "up --join exnkey1-x", "down", "down --forget", "lab up", "lab down"])
  test(`"exitnode ${line}" is refused to whoever is not root, before anything is changed`, async () => {
    const { code, message, advice } = failureOf(await run(`${line} --json`, { as: AS_NOBODY }));
    assert.equal(code, line.startsWith("lab") ? "lab-needs-root" : "not-root");
    assert.match(message, /root/);
    assert.match(advice ?? "", /^sudo exitnode (up|down|lab up|lab down)/);
    assert.deepEqual(readdirSync(folder), []);
  });

for (const { line, code, advice } of [
  { line: "use home", code: "agent-not-running", advice: /^exitnode up --join KEY$/ },
  { line: "use none", code: "agent-not-running", advice: /^exitnode up --join KEY$/ },
  { line: "status", code: "agent-not-running", advice: /exitnode up --join KEY.*\n.*exitnode setup/ },
  { line: "trace nowhere.invalid", code: "name-unknown", advice: /exitnode status/ },
  { line: "up", code: "join-key-required", advice: /^exitnode up --join KEY/ },
  { line: "up --join garbage", code: "join-key-invalid", advice: /exitnode key create$/ },
])
  test(`"exitnode ${line}" on a machine that is no device fails with ${code} and says what to type, leaving nothing`, async () => {
    const told = failureOf(await run(`${line} --json`));
    assert.equal(told.code, code);
    assert.match(told.advice ?? "", advice);
    assert.deepEqual(readdirSync(folder), []);
  });

// Where this machine is a device under systemd, `down` would stop that one: a unit's path cannot be moved.
const skip = existsSync("/etc/systemd/system/exitnode-device.service");

test("down on a machine that is no device has nothing to do, and says so", { skip }, async () => {
  const { code, stdout } = await run("down --json");
  assert.equal(code, 0);
  assert.deepEqual(JSON.parse(stdout), { stopped: false, name: "this device" });
  assert.equal(existsSync(join(folder, "etc")), false);
});
