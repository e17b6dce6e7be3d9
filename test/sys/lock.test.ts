import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { test } from "node:test";
import { lockHolder, tryLock } from "../../src/sys/lock.js";

const NAME = `exn-lock-test-${process.pid}`;

test("a lock is held once, its holder is named, and it can be had again when it is freed", async () => {
  assert.equal(await lockHolder(NAME), undefined);
  const free = await tryLock(NAME);
  assert.ok(free !== undefined);
  assert.equal(await tryLock(NAME), undefined);
  assert.equal(await lockHolder(NAME), process.pid);
  await free();
  assert.equal(await lockHolder(NAME), undefined);
  await (await tryLock(NAME))?.();
});

test("a lock whose holder was killed is free", async () => {
  const script = `require("node:net").createServer().listen("\\0${NAME}", () => console.log("held"))`;
  const holder = spawn(process.execPath, ["-e", script], { stdio: ["ignore", "pipe", "inherit"] });
  await once(holder.stdout, "data");
  assert.equal(await tryLock(NAME), undefined);
  holder.kill("SIGKILL");
  await once(holder, "exit");
  await (await tryLock(NAME))?.();
});
