import assert from "node:assert/strict";
import {
  appendFileSync,
  closeSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { boundLog, LOG_BYTES_KEPT, LOG_BYTES_MAX, openAgentLog } from "../../src/cli/agentlog.js";

const folder = mkdtempSync(join(tmpdir(), "exn-log-"));
after(() => rmSync(folder, { recursive: true }));

test("a log that has grown too long keeps whole lines of its end, and its writer goes on behind them", () => {
  const path = join(folder, "agent.log");
  const writer = openSync(path, "a");
  const line = (number: number): string => `${"x".repeat(90)} ${number}\n`;
  for (let i = 0; i < 11_000; i++) writeSync(writer, line(i));
  const log = openAgentLog(path);
  boundLog(log);
  writeSync(writer, "after\n");
  const text = readFileSync(path, "utf8");
  assert.ok(text.length <= LOG_BYTES_KEPT + 6 && text.length > LOG_BYTES_KEPT - 100, `${text.length} bytes`);
  assert.ok(text.endsWith(`${line(10_999)}after\n`));
  assert.match(text.split("\n")[0] ?? "", /^x{90} \d+$/);
  closeSync(writer);
  closeSync(log);
});

test("a log of a bearable length is left as it is", () => {
  const path = join(folder, "short.log");
  appendFileSync(path, "x".repeat(LOG_BYTES_MAX));
  const log = openAgentLog(path);
  boundLog(log);
  assert.equal(readFileSync(path).length, LOG_BYTES_MAX);
  closeSync(log);
});

test("a link in the place of the log is not followed", () => {
  const path = join(folder, "link.log");
  symlinkSync("/etc/passwd", path);
  assert.throws(() => openAgentLog(path), /ELOOP/);
});
