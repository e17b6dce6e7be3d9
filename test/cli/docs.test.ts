import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { commands } from "../../src/cli/commands.js";
import { parseArgv } from "../../src/cli/program.js";
import { type AccessHost, accessLines, planAccess } from "../../src/pve/bootstrap.js";
import { ROLE_NAMES, ROLES } from "../../src/pve/permissions.js";

/** What the documents tell people to type is what the program takes. */
const root = findRoot();
const pages = ["README.md", ...readdirSync(join(root, "docs")).map((name) => `docs/${name}`)].filter((name) =>
  name.endsWith(".md"),
);
const textOf = (page: string): string => readFileSync(join(root, page), "utf8");

/** The lines of fenced blocks. */
function blocks(text: string): string[] {
  return [...text.matchAll(/^```[a-z]*\n([\s\S]*?)^```$/gm)].map(([, body = ""]) => body);
}

/** Each `exitnode …` of a page: in blocks a line (joined by && or |), elsewhere what stands between backticks. */
function typed(text: string): string[] {
  const inBlocks = blocks(text).flatMap((block) => block.split("\n"));
  const inline = [...text.replace(/^```[\s\S]*?^```$/gm, "").matchAll(/`([^`\n]+)`/g)].map(([, code = ""]) => code);
  return [...inBlocks, ...inline]
    .flatMap((line) => line.replace(/\s#.*$/, "").split(/&&|[|;]|(?:>|<\().*$/))
    .map((line) => line.trim().replace(/^sudo /, ""))
    .filter((line) => /^exitnode [a-z-]/.test(line) && !line.includes("…"));
}

for (const page of pages) {
  const lines = typed(textOf(page));
  if (lines.length === 0) continue;
  test(`${page}: each of its ${lines.length} commands is one, with these options`, () => {
    for (const line of lines) {
      const argv = line.split(/\s+/).slice(1);
      if (argv[0]?.startsWith("-")) continue;
      assert.doesNotThrow(() => parseArgv(commands, argv, "0.0.0"), `${page}: ${line}`);
    }
  });
}

test("every page that a page points to is there", () => {
  for (const page of pages)
    for (const [, link = ""] of textOf(page).matchAll(/\]\(([^)#:]+)\)/g))
      assert.ok(existsSync(join(root, dirname(page), link)), `${page}: ${link}`);
});

const permissions = textOf("docs/permissions.md");

test("the pveum lines of docs/permissions.md are those that a bootstrap runs, in its order", async () => {
  const refuse = (): never => {
    throw new Error("planning writes nothing");
  };
  const untouched: AccessHost = {
    roles: async () => new Map(),
    users: async () => [],
    tokens: async () => [],
    acls: async () => [],
    pools: async () => [],
    setRole: refuse,
    createUser: refuse,
    createToken: refuse,
    deleteToken: refuse,
    createPool: refuse,
    setAcl: refuse,
  };
  const places = { nodes: ["pve1"], storages: ["local", "local-lvm"], bridges: [{ name: "vmbr0" }] };
  const wish = { ...places, pool: "exitnode", token: "cli-laptop" };
  const steps = await planAccess(untouched, wish);
  const told = blocks(permissions).find((block) => block.includes("pveum role add")) ?? "";
  assert.deepEqual(told.trim().split("\n"), steps.flatMap(accessLines));
});

test("the table of docs/permissions.md has every privilege of every role, and no other", () => {
  const rows = permissions.split("\n").filter((line) => /^\| (?:Exitnode\w+)? *\|/.test(line));
  const found: Record<string, string[]> = {};
  let role = "";
  for (const row of rows) {
    const [name = "", , privileges = ""] = row
      .split("|")
      .slice(1)
      .map((cell) => cell.trim());
    if (name !== "") role = name;
    found[role] = [...(found[role] ?? []), ...(privileges.match(/[A-Z]\w+\.[\w.]+/g) ?? [])];
  }
  assert.deepEqual(Object.keys(found), [...ROLE_NAMES]);
  for (const name of ROLE_NAMES) assert.deepEqual(found[name]?.sort(), [...ROLES[name]].sort());
});

function findRoot(): string {
  for (let folder = dirname(fileURLToPath(import.meta.url)); folder !== "/"; folder = dirname(folder))
    if (existsSync(join(folder, "package.json"))) return folder;
  throw new Error("no package.json above the test");
}
