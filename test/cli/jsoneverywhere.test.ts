import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { text } from "node:stream/consumers";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { commands } from "../../src/cli/commands.js";
import { parseArgv } from "../../src/cli/program.js";

/** A script may ask anything with --json, and gets one JSON value and nothing else, whatever becomes of it. */
const EXCEPTIONS: Readonly<Record<string, string>> = {
  agent: "a daemon: it has a journal and no result",
  serve: "a daemon",
  relay: "a daemon",
  "lab serve-web": "a daemon",
  "lab serve-nas": "a daemon",
  "lab serve-pve": "a daemon",
  "lab exec": "what it prints is the command's that it runs",
};

const main = join(dirname(fileURLToPath(import.meta.url)), "../../src/main.js");
const folder = mkdtempSync(join(tmpdir(), "exn-json-"));
after(() => rmSync(folder, { recursive: true, force: true }));

/** A user without any right but to read this checkout: nothing is changed on the way. */
const AS_NOBODY = "setpriv --reuid=65534 --regid=65534 --clear-groups --bounding-set=-all,+dac_read_search"
  .concat(" --inh-caps=-all,+dac_read_search --ambient-caps=-all,+dac_read_search")
  .split(" ");
const LIMIT_MS = 60_000;
const AT_ONCE = 2;

const wordsOf = (usage: string): string[] => usage.split(" ").filter((word) => !/^[<[]/.test(word));
/** Something for each argument: no command needs to like it. */
const argumentsOf = (usage: string): string[] =>
  (usage.match(/<[^>]+>/g) ?? []).map((one) => (one === "<shell>" ? "bash" : "x"));
const lines = commands
  .map(({ usage }) => ({ name: wordsOf(usage).join(" "), args: argumentsOf(usage) }))
  .filter(({ name }) => EXCEPTIONS[name] === undefined);

test("every exception is a command that is there", () => {
  const names = commands.map(({ usage }) => wordsOf(usage).join(" "));
  for (const name of Object.keys(EXCEPTIONS)) assert.ok(names.includes(name), name);
});

test("every command takes --json", () => {
  for (const { usage } of commands) {
    const { call } = parseArgv(commands, [...wordsOf(usage), "--json", ...argumentsOf(usage)], "0");
    assert.equal(call.json, true, usage);
  }
});

async function told(argv: readonly string[]): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const [file = "", ...args] = [...AS_NOBODY, process.execPath, main, ...argv];
  const child = spawn(file, args, {
    stdio: ["ignore", "pipe", "pipe"],
    timeout: LIMIT_MS,
    cwd: "/",
    env: {
      PATH: process.env.PATH,
      HOME: folder,
      EXITNODE_ETC: join(folder, "etc"),
      EXITNODE_VAR: join(folder, "var"),
      EXITNODE_RUN: join(folder, "run"),
    },
  });
  const code = new Promise<number | null>((resolve) => child.on("close", resolve));
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)]);
  return { code: await code, stdout, stderr };
}

for (let at = 0; at < lines.length; at += AT_ONCE) {
  const some = lines.slice(at, at + AT_ONCE);
  test(`with --json, ${some.map(({ name }) => `"${name}"`).join(" and ")} print exactly one line, and it is JSON`, async () => {
    await Promise.all(
      some.map(async ({ name, args }) => {
        const { code, stdout, stderr } = await told([...name.split(" "), "--json", ...args]);
        assert.ok(code === 0 || code === 1 || code === 2, `${name}: exit code ${code} ${stderr}`);
        assert.match(stdout, /^[{[].*[}\]]\n$/, `${name}: ${stdout}`);
        const value: unknown = JSON.parse(stdout);
        const failed = value !== null && typeof value === "object" && "error" in value;
        assert.equal(failed, code !== 0, `${name}: ${stdout}`);
      }),
    );
  });
}
