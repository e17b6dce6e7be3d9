import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { commands } from "../../src/cli/commands.js";
import { parseArgv } from "../../src/cli/program.js";

/** What the doctor tells people to type is what the program takes. */
const root = findRoot();
const sources = ["src/provision/doctor", "src/cli"].flatMap((folder) =>
  readdirSync(join(root, folder))
    .filter((name) => name.endsWith(".ts") && (folder !== "src/cli" || name.startsWith("doctor")))
    .map((name) => join(folder, name)),
);

/** Each `exitnode …` of a string, with something in the place of values; `    (` begins a remark. */
function typed(text: string): string[] {
  const filled = text.replace(/\$\{[^}]*\}/g, "x");
  return [...filled.matchAll(/(?<=["'`(]|: |\\n|&& |, then |\bor )exitnode (?!doctor`)[a-z][^"`\\;&]*/g)]
    .map(([line]) => line.replace(/ {4}\(.*$|, then .*$|\s*\(.*$|, and .*$/, "").trim())
    .filter((line) => !/\$|…/.test(line));
}

const lines = [...new Set(sources.flatMap((path) => typed(readFileSync(join(root, path), "utf8"))))];

test(`each of the ${lines.length} commands that the doctor prints is one, with these options`, () => {
  assert.ok(lines.length >= 12, lines.join("\n"));
  for (const line of lines) assert.doesNotThrow(() => parseArgv(commands, line.split(/\s+/).slice(1), "0"), line);
});

function findRoot(): string {
  for (let folder = dirname(fileURLToPath(import.meta.url)); folder !== "/"; folder = dirname(folder))
    if (readdirSync(folder).includes("package.json")) return folder;
  throw new Error("no package.json above the test");
}
