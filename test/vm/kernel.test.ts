import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { dirname } from "node:path";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { parseReport } from "./report.js";

/** The tests in *.guest.ts need a kernel with WireGuard's module: they run in a virtual machine, and are told here. */
const GUESTS = ["kernelonly", "contracts", "engine", "paths"];
/** Four times what it takes on a machine that does nothing else (200 s): others on a shared one are slower. */
const DEADLINE_SECONDS = 800;

const build = fileURLToPath(new URL("../..", import.meta.url));
const script = fileURLToPath(new URL("../../../scripts/vm", import.meta.url));
const able = process.getuid?.() === 0 && process.arch === "x64" && existsSync("/usr/bin/qemu-system-x86_64");

test("under a kernel that has WireGuard", {
  skip: able ? false : "needs root, an x86-64 machine and qemu-system-x86_64",
}, async (t) => {
  const files = GUESTS.map((name) => `test/vm/${name}.guest.js`);
  const machine = spawn(script, ["--deadline", String(DEADLINE_SECONDS), ...files], {
    cwd: dirname(dirname(script)),
    env: { ...process.env, EXN_BUILD: build },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const ended = once(machine, "close");
  const said: string[] = [];
  createInterface({ input: machine.stderr }).on("line", (line) => said.push(line));
  let told = 0;
  for await (const line of createInterface({ input: machine.stdout })) {
    const report = parseReport(line);
    if (report === undefined) {
      said.push(line);
      continue;
    }
    told++;
    await t.test(report.name, { skip: report.skipped ?? false }, () => {
      t.diagnostic(`${report.name}: ${report.milliseconds} ms in the machine`);
      if (!report.passed) assert.fail(report.error);
    });
  }
  const [code] = await ended;
  for (const line of said) t.diagnostic(line);
  assert.equal(code, 0, said.join("\n"));
  assert.ok(told > 0, "tests were run");
});
