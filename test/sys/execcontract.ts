import assert from "node:assert/strict";
import { test } from "node:test";
import { Failure } from "../../src/kit/failure.js";
import type { Exec } from "../../src/sys/exec.js";

/** What every Exec must do, wherever its programs run. */
export function execContract(name: string, open: () => Promise<Exec>): void {
  const failsWith =
    (code: string) =>
    (error: unknown): boolean =>
      error instanceof Failure && error.code === code;

  for (const word of [
    "it's one word",
    "a  b",
    "$HOME",
    "`id`",
    "*",
    "",
    "line\nbreak",
    "ünï 🙂",
    "-n",
    'q"q',
    "\\",
    "!x",
  ])
    test(`${name}: passes the argument ${JSON.stringify(word)} through unchanged`, async () => {
      const exec = await open();
      assert.equal((await exec.run(["printf", "[%s]", word])).stdout, `[${word}]`);
    });

  test(`${name}: a non-zero exit is a result, with both streams apart`, async () => {
    const exec = await open();
    assert.deepEqual(await exec.run(["sh", "-c", "echo out; echo err >&2; exit 3"]), {
      exitCode: 3,
      stdout: "out\n",
      stderr: "err\n",
    });
  });

  test(`${name}: an exit code of 127 of the program's own is a result`, async () => {
    const exec = await open();
    assert.equal((await exec.run(["sh", "-c", "exit 127"])).exitCode, 127);
  });

  test(`${name}: a program that is not there is a Failure`, async () => {
    const exec = await open();
    await assert.rejects(exec.run(["exn-no-such-program", "x"]), failsWith("exec-failed"));
  });

  test(`${name}: input arrives whole, also a megabyte of it`, async () => {
    const exec = await open();
    const input = "0123456789abcdef".repeat(65_536);
    assert.equal((await exec.run(["cat"], { input })).stdout, input);
  });

  test(`${name}: bytes that are not text arrive as they are`, async () => {
    const exec = await open();
    const ran = await exec.run(["od", "-An", "-tx1"], { input: Uint8Array.of(0, 255, 10, 39) });
    assert.equal(ran.stdout.trim(), "00 ff 0a 27");
  });

  test(`${name}: without input, reading ends at once`, async () => {
    const exec = await open();
    assert.equal((await exec.run(["cat"])).stdout, "");
  });

  test(`${name}: input that the program does not read does no harm`, async () => {
    const exec = await open();
    assert.equal((await exec.run(["true"], { input: "x".repeat(300_000) })).exitCode, 0);
  });

  test(`${name}: the environment has what was asked for`, async () => {
    const exec = await open();
    assert.equal((await exec.run(["sh", "-c", 'printf %s "$EXN_T"'], { env: { EXN_T: "a 'b'" } })).stdout, "a 'b'");
  });

  test(`${name}: the deadline ends the program and is a Failure`, async () => {
    const exec = await open();
    await assert.rejects(exec.run(["sleep", "60"], { timeoutMs: 100 }), failsWith("exec-failed"));
  });

  test(`${name}: an aborted signal is a Failure`, async () => {
    const exec = await open();
    await assert.rejects(exec.run(["sleep", "60"], { signal: AbortSignal.timeout(100) }), failsWith("exec-failed"));
  });

  test(`${name}: a program ended by a signal is a Failure`, async () => {
    const exec = await open();
    await assert.rejects(exec.run(["sh", "-c", "kill -TERM $$"]), failsWith("exec-failed"));
  });
}
