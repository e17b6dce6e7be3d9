import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { localExec } from "../../src/sys/exec.js";
import { tryLock } from "../../src/sys/lock.js";

const main = fileURLToPath(new URL("../../src/main.js", import.meta.url));

test("a second up says which process is at it, and changes nothing", async () => {
  const folder = mkdtempSync(join(tmpdir(), "exn-up-"));
  const free = await tryLock(`exitnode-up-${folder}`);
  const env = { EXITNODE_ETC: folder, EXITNODE_VAR: folder, EXITNODE_RUN: folder, PATH: process.env.PATH ?? "" };
  const ran = await localExec.run([process.execPath, main, "up", "--json"], { env });
  assert.equal(ran.exitCode, 1);
  const { code, message } = JSON.parse(ran.stdout).error;
  assert.deepEqual(
    [code, message],
    ["already-running", `another \`exitnode up\` is at work on this machine (process ${process.pid})`],
  );
  await free?.();
  assert.deepEqual(readdirSync(folder), []);
  rmSync(folder, { recursive: true });
});
