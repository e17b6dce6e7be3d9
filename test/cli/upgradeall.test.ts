import assert from "node:assert/strict";
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import type { Call } from "../../src/cli/command.js";
import { upgradeExitNodes } from "../../src/cli/upgradeaction.js";
import { Failure } from "../../src/kit/failure.js";
import { PUSHED_FILES } from "../../src/netconf/containerfiles.js";
import { SeveralHosts } from "./severalhosts.js";

/** `upgrade --all` over several hosts of the config. */
const hosts = new SeveralHosts();
/** This package as it is shipped, with empty programs in it. */
const shipped = join(hosts.folder, "package");
const call = (args: readonly string[], options: Call["options"]): Call => {
  const made = hosts.call(args, options);
  return { ...made, parts: { ...made.parts, paths: { ...made.parts.paths, package: shipped } } };
};
before(async () => {
  mkdirSync(join(shipped, "dist"), { recursive: true });
  symlinkSync(join(process.cwd(), "templates"), join(shipped, "templates"));
  for (const { from } of PUSHED_FILES) writeFileSync(join(shipped, "dist", from), "");
  await hosts.open(["pve1", "pve2"]);
  await hosts.exitNode(0, 101, "attic");
  await hosts.exitNode(1, 102, "cellar");
});
after(() => hosts.close());

test("says of every exit node of every host what would be changed, and of each how it would be kept", async () => {
  const { value, exitCode } = await upgradeExitNodes(call([], { all: true, dryRun: true }));
  const { exitNodes } = value as { exitNodes: { name: string; host: string; steps: { words: string }[] }[] };
  assert.deepEqual(
    exitNodes.map(({ name, host }) => `${name} on ${host}`),
    ["attic on pve1", "cellar on pve2"],
  );
  for (const { steps } of exitNodes)
    assert.ok(
      steps.some(({ words }) => words === "keep the state of before: a backup"),
      JSON.stringify(steps),
    );
  assert.equal(exitCode, 4);
});

test("stops at the first that fails, and names what was done and what was not begun", async () => {
  await hosts.exitNode(0, 103, "attic");
  await assert.rejects(upgradeExitNodes(call([], { all: true })), (error: unknown) => {
    assert.ok(error instanceof Failure);
    assert.equal(error.code, "name-ambiguous", error.message);
    assert.match(
      error.message,
      /^"attic" on pve1: .*; upgraded before it: none; not begun: attic \(pve1\), cellar \(pve2\)$/,
    );
    return true;
  });
});

test("a name and --all together are refused", async () => {
  await assert.rejects(upgradeExitNodes(call(["attic"], { all: true })), { code: "usage" });
});
