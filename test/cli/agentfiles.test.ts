import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, beforeEach, test } from "node:test";
import { fileURLToPath } from "node:url";
import { ensureFolders, installProgram } from "../../src/cli/agentfiles.js";
import type { Call, Parts } from "../../src/cli/command.js";
import { stopAgent } from "../../src/cli/down.js";
import { pathsFrom } from "../../src/cli/paths.js";
import { cleanUp, PID_FILE } from "../../src/cli/supervise.js";
import { up } from "../../src/cli/up.js";
import { keyPairOf } from "../../src/kit/crypto.js";
import { Failure } from "../../src/kit/failure.js";
import { keyOf } from "../../src/kit/key.js";
import { systemClock } from "../../src/sys/clock.js";
import { localExec } from "../../src/sys/exec.js";
import { localFiles } from "../../src/sys/files.js";
import { systemRandom } from "../../src/sys/random.js";
import { encodeJoinKey } from "../../src/wire/joinkey.js";

/** What `up` and `down` leave on a machine, in folders of the test's own. Run as root. */
const base = mkdtempSync(join(tmpdir(), "exn-files-"));
after(() => rmSync(base, { recursive: true, force: true }));
let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(base, "at-"));
});

const GOOD_KEY = encodeJoinKey({
  coordinatorKey: keyOf(keyPairOf(systemRandom(32)).publicKey),
  urls: ["https://203.0.113.7"],
  secret: "s".repeat(43),
});
const NOBODY = { uid: 65_534, gid: 65_534 };

function parts(): Parts {
  const env = {
    EXITNODE_ETC: join(folder, "etc"),
    EXITNODE_VAR: join(folder, "var"),
    EXITNODE_RUN: join(folder, "run"),
  };
  return {
    env,
    paths: pathsFrom({ ...env, HOME: folder }, "."),
    // A machine without the agent's user.
    files: { ...localFiles, readText: async (path) => (path === "/etc/passwd" ? "" : localFiles.readText(path)) },
    exec: { run: async (argv) => assert.fail(`nothing is run: ${argv.join(" ")}`) },
    clock: systemClock,
    random: systemRandom,
    say: () => undefined,
    interactive: false,
  };
}

const upWith = (options: Call["options"]): Promise<unknown> =>
  up({ args: [], options, json: false, signal: new AbortController().signal, parts: parts() });

for (const { name, options, code } of [
  { name: "a garbage join key", options: { join: "exnkey1-garbage" }, code: "join-key-invalid" },
  { name: "no join key", options: {}, code: "join-key-required" },
  { name: "an impossible data plane", options: { join: GOOD_KEY, dataPlane: "quantum" }, code: "usage" },
  { name: "a name that is no DNS label", options: { join: GOOD_KEY, name: "Über Laptop" }, code: "usage" },
])
  test(`up with ${name} is refused before a user, a folder or a file is made`, async () => {
    await assert.rejects(upWith(options), (error: unknown) => error instanceof Failure && error.code === code);
    assert.deepEqual(readdirSync(folder), []);
  });

test("under a strict umask the agent's user can still read its program and its configuration's folder", async () => {
  const { paths } = parts();
  const before = process.umask(0o077);
  try {
    await ensureFolders(paths, NOBODY);
    await installProgram(paths);
  } finally {
    process.umask(before);
  }
  const mode = (path: string): string => (statSync(path).mode & 0o777).toString(8);
  const program = join(folder, "exitnode-program");
  assert.deepEqual([mode(paths.etc), mode(program), mode(paths.var), mode(paths.run)], ["755", "755", "750", "750"]);
  assert.deepEqual([mode(join(program, "agent.js")), mode(join(program, "koffi.node"))], ["644", "644"]);
  assert.deepEqual([statSync(paths.var).uid, statSync(paths.run).gid], [NOBODY.uid, NOBODY.gid]);
});

/** A process that looks like a supervisor whose agent is not there, and ends at SIGTERM. */
async function startSupervisor(): Promise<ChildProcess> {
  const script = join(folder, "main.js");
  writeFileSync(script, `setInterval(() => undefined, 1000); process.stdout.write("up\\n");`);
  const child = spawn(process.execPath, [script, "agent"], { stdio: ["ignore", "pipe", "inherit"] });
  if (child.stdout !== null) await once(child.stdout, "data");
  return child;
}

test("down ends a supervisor that waits to start a crashed agent again, at once", { timeout: 120_000 }, async () => {
  const supervisor = await startSupervisor();
  const ended = once(supervisor, "exit");
  const own = parts();
  await localFiles.write(join(own.paths.run, PID_FILE), `${supervisor.pid}\n`);
  let waited = 0;
  const clock = {
    ...systemClock,
    sleep: (duration: number) => {
      waited += duration;
      return systemClock.sleep(duration);
    },
  };
  assert.equal(await stopAgent({ ...own, clock }), true);
  assert.deepEqual(await ended, [null, "SIGTERM"]);
  assert.ok(waited < 5_000, `it took ${waited} ms of waiting`);
  assert.equal(existsSync(join(own.paths.run, PID_FILE)), false);
});

test("down leaves a process alone that has the supervisor's old number by chance", async () => {
  const stranger = spawn(process.execPath, ["-e", "setInterval(() => undefined, 1000)"], { stdio: "ignore" });
  try {
    const own = parts();
    await localFiles.write(join(own.paths.run, PID_FILE), `${stranger.pid}\n`);
    assert.equal(await stopAgent(own), false);
    assert.equal(stranger.exitCode ?? stranger.signalCode, null);
  } finally {
    const ended = once(stranger, "exit");
    stranger.kill();
    await ended;
  }
});

test("a clean-up that does not end in time is told, and does not end the supervisor", async () => {
  const said: string[] = [];
  const hangs = { run: () => Promise.reject(new Failure("exec-failed", "cannot run node: timed out")) };
  await cleanUp({ ...parts(), exec: hangs, say: (line) => said.push(line) }, "agent.js");
  assert.deepEqual(said, ["the machine's routing was not restored whole: cannot run node: timed out"]);
});

test("the agent tells a corrupted agent.yaml with file and line", async () => {
  const { paths } = parts();
  await localFiles.write(join(paths.etc, "agent.yaml"), "name: laptop\nrole: [device\n");
  const agent = join(dirname(fileURLToPath(import.meta.url)), "../../src/agentmain.js");
  const env = {
    PATH: process.env.PATH ?? "",
    EXITNODE_ETC: paths.etc,
    EXITNODE_VAR: paths.var,
    EXITNODE_RUN: paths.run,
  };
  const { exitCode, stderr } = await localExec.run([process.execPath, agent], { env });
  assert.equal(exitCode, 1);
  assert.match(stderr, /^exitnode-agent: \S+\/agent\.yaml line [23]: \S+ \[config-invalid\]\n {2}→ correct line/);
});
