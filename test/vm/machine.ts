import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { dirname } from "node:path";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { parseReport } from "./report.js";

/** Four times what either step takes on a machine that does nothing else (70 and 160 s): others are slower. */
const DEADLINE_SECONDS = 640;

const build = fileURLToPath(new URL("../..", import.meta.url));
const script = fileURLToPath(new URL("../../../scripts/vm", import.meta.url));
const able = process.getuid?.() === 0 && process.arch === "x64" && existsSync("/usr/bin/qemu-system-x86_64");

/** The tests in the *.guest.ts of these names need a kernel with WireGuard's module: they run in a virtual machine, and are told here. */
export function testInMachine(name: string, guests: readonly string[]): void {
  test(name, { skip: able ? false : "needs root, an x86-64 machine and qemu-system-x86_64" }, async (t) => {
    const files = guests.map((guest) => `test/vm/${guest}.guest.js`);
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
}
