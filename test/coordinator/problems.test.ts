import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { statusOf } from "../../src/coordinator/api/problem.js";
import { Failure } from "../../src/kit/failure.js";

/** What no request can bring about: it stops the start of a coordinator, or is ours to mend. */
const OURS = [
  "backup-invalid",
  "config-invalid",
  "coordinator-running",
  "store-newer",
  "store-other-version",
  "store-unusable",
];

test("whatever a request can fail with has a status of its own, and is not taken for a fault of ours", () => {
  const folder = join(rootOf(import.meta.url), "src/coordinator");
  const codes = new Set<string>();
  for (const name of readdirSync(folder, { recursive: true }).map(String))
    if (name.endsWith(".ts"))
      for (const [, code = ""] of readFileSync(join(folder, name), "utf8").matchAll(/new Failure\(\s*"([a-z0-9-]+)"/g))
        codes.add(code);
  assert.ok(codes.size > 20);
  assert.deepEqual(
    [...codes].filter((code) => statusOf(new Failure(code, "")) === 500 && code !== "internal").sort(),
    OURS.filter((code) => codes.has(code)),
  );
});

function rootOf(url: string): string {
  for (let folder = dirname(fileURLToPath(url)); folder !== "/"; folder = dirname(folder))
    if (readdirSync(folder).includes("package.json")) return folder;
  throw new Error("no package.json above the test");
}
