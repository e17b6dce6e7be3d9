import assert from "node:assert/strict";
import { test } from "node:test";
import { commands } from "../../src/cli/commands.js";
import { parseArgv, withHelp } from "../../src/cli/program.js";
import { Failure } from "../../src/kit/failure.js";

const typed = (line: string) => parseArgv(commands, line.split(" "), "0.0.0");

for (const { line, advice } of [
  { line: "dance", advice: "exitnode --help" },
  { line: "ping", advice: "exitnode ping --help" },
  { line: "create --memroy 512", advice: "exitnode create --help" },
  { line: "host dance", advice: "exitnode host --help" },
  { line: "create home", advice: "exitnode create --name home" },
  { line: "key revoke", advice: "exitnode key revoke --help" },
])
  test(`wrong usage in "${line}" points to ${advice}`, () => {
    assert.throws(() => typed(line), { name: "Failure", code: "usage", advice });
  });

test("wrong usage that a command finds points to its help, unless it knows a better next step", () => {
  const { command } = typed("use home");
  assert.equal(withHelp(new Failure("usage", "no"), command).advice, "exitnode use --help");
  assert.equal(withHelp(new Failure("usage", "no", { advice: "sleep" }), command).advice, "sleep");
  assert.equal(withHelp(new Failure("internal", "no"), command).advice, undefined);
});

test("--json counts before the command as well as after it, and not after `--`", () => {
  assert.equal(typed("--json host list").call.json, true);
  assert.equal(typed("host --json list").call.json, true);
  assert.equal(typed("host list --json").call.json, true);
  const { call } = typed("lab exec laptop -- ip --json route");
  assert.equal(call.json, false);
  assert.deepEqual(call.args, ["laptop", "--", "ip", "--json", "route"]);
});

test("an option that may be repeated is a list, and absent when it was not given", () => {
  assert.deepEqual(typed("create --allow-lan 10.0.0.0/8 --allow-lan 192.168.1.0/24").call.options.allowLan, [
    "10.0.0.0/8",
    "192.168.1.0/24",
  ]);
  assert.equal(typed("create").call.options.allowLan, undefined);
});

test("every value of an option is named in capitals, and every summary is a sentence without its full stop", () => {
  for (const { usage, summary, options = [] } of commands) {
    assert.match(summary, /^[A-Z].*[^.]$/, usage);
    for (const { flags, description } of options) {
      assert.match(flags, /^(?:-\w, )?--[a-z0-9-]+(?: <(?:[A-Z]+|MiB|GiB)>)?$/, `${usage} ${flags}`);
      assert.match(description, /^[a-zS].*[^.]$/, `${usage} ${flags}`);
    }
  }
});
