import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { commands } from "../../src/cli/commands.js";
import { manPage } from "../../src/cli/manpage.js";

const page = manPage(commands, "0.0.0");

/** The page as a reader sees it, in one line. */
function shown(): string {
  const ran = spawnSync("man", ["--warnings", "-l", "-"], {
    input: page,
    encoding: "utf8",
    env: { PATH: process.env.PATH, MANWIDTH: "1000", LC_ALL: "C.UTF-8" },
  });
  assert.equal(ran.status, 0, ran.stderr);
  assert.equal(ran.stderr, "", "groff warns of what it does not understand");
  return ran.stdout.replace(/\s+/g, " ");
}

const skip = spawnSync("man", ["--version"]).status === 0 ? false : "man is not on this machine";

test("the manual page has every command with every option, and groff finds nothing to warn of", { skip }, () => {
  const seen = shown();
  for (const { usage, summary, options = [], hidden } of commands) {
    assert.equal(seen.includes(` exitnode ${usage} ${summary}`), hidden !== true, usage);
    if (hidden === true) continue;
    for (const { flags, description } of options)
      assert.ok(seen.includes(`${flags} ${description}`.replace(/\s+/g, " ")), `${usage} ${flags}`);
  }
});

const lint = spawnSync("mandoc", ["-Tlint", "-W", "warning"], { input: page, encoding: "utf8" });
const noMandoc = lint.error === undefined ? false : "mandoc is not on this machine";

test("mandoc reads it too; the date it misses would make every build another page", { skip: noMandoc }, () => {
  const found = lint.stdout.split("\n").filter((line) => line !== "" && !line.includes("missing date"));
  assert.deepEqual(found, []);
});

test("a word that is a request to groff stays a word", () => {
  const odd = manPage([{ usage: "odd", summary: ".Dotted 'quoted' back\\slash", run: () => Promise.reject() }], "0");
  assert.ok(odd.includes("\\&.Dotted 'quoted' back\\eslash."));
});
