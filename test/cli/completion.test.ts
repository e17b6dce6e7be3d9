import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { commands } from "../../src/cli/commands.js";
import { candidates, type KnownNames } from "../../src/cli/completioncandidates.js";

/** What is offered at a TAB: first as a decision, then in the real shells. */
const KNOWN: KnownNames = { hosts: ["pve1", "pve2"], exitNodes: ["home", "cabin"], peers: ["phone"] };

for (const { line, offers } of [
  { line: "host ", offers: ["add", "list", "check", "remove"] },
  { line: "host ch", offers: ["check"] },
  { line: "host check ", offers: ["pve1", "pve2"] },
  { line: "host remove pve2", offers: ["pve2"] },
  { line: "host add ", offers: [] },
  { line: "create --host ", offers: ["pve1", "pve2"] },
  { line: "create --host = pve", offers: ["pve1", "pve2"] },
  { line: "create --host =", offers: ["pve1", "pve2"] },
  { line: "create --data-plane k", offers: ["kernel"] },
  { line: "create --host pve1 --me", offers: ["--memory"] },
  { line: "create --memory 512 --me", offers: [] },
  { line: "create --allow-lan 10.0.0.0/8 --allow-l", offers: ["--allow-lan"] },
  { line: "destroy ", offers: ["home", "cabin"] },
  { line: "destroy --yes ho", offers: ["home"] },
  { line: "use ", offers: ["phone", "home", "cabin", "nearest", "none"] },
  { line: "export home --format ", offers: ["terraform", "ansible", "pct"] },
  { line: "completion z", offers: ["zsh"] },
  { line: "lab exec laptop -- ip --", offers: [] },
  { line: "comple", offers: ["completion"] },
  { line: "dance ", offers: [] },
])
  test(`"exitnode ${line}" + TAB offers ${offers.join(", ") || "nothing"}`, () => {
    const found = candidates(commands, line.split(" "), KNOWN).map(({ word }) => word);
    assert.deepEqual(found, offers);
  });

test("every word, option and subcommand of every command is reached by TAB alone", () => {
  for (const { usage, hidden, options = [] } of commands) {
    if (hidden === true) continue;
    const words = usage.split(" ").filter((word) => !/^[<[]/.test(word));
    for (let at = 0; at < words.length; at++) {
      const offered = candidates(commands, [...words.slice(0, at), ""], KNOWN).map(({ word }) => word);
      assert.ok(offered.includes(words[at] ?? ""), `${usage}: ${offered.join(" ")}`);
    }
    const flags = candidates(commands, [...words, "--"], KNOWN).map(({ word }) => word);
    for (const option of options)
      assert.ok(
        flags.includes(option.flags.split(/[ ,]+/).at(option.flags.startsWith("--") ? 0 : 1) ?? ""),
        `${usage} ${option.flags}`,
      );
    assert.ok(flags.includes("--json"));
  }
});

const folder = mkdtempSync(join(tmpdir(), "exn-completion-"));
after(() => rmSync(folder, { recursive: true, force: true }));
const main = join(dirname(fileURLToPath(import.meta.url)), "../../src/main.js");
const env = {
  PATH: `${folder}/bin:${process.env.PATH}`,
  HOME: folder,
  EXITNODE_CONFIG: join(folder, "config"),
  EXITNODE_VAR: join(folder, "var"),
  TERM: "dumb",
  LC_ALL: "C.UTF-8",
};

before(() => {
  for (const name of ["bin", "config", ".local/state/exitnode/journal"])
    mkdirSync(join(folder, name), { recursive: true });
  writeFileSync(join(folder, "bin/exitnode"), `#!/bin/sh\nexec ${process.execPath} ${main} "$@"\n`);
  chmodSync(join(folder, "bin/exitnode"), 0o755);
  const entry = `{ url: "https://192.0.2.1:8006", login: root@pam, fingerprint: "${"AB:".repeat(31)}CD" }`;
  writeFileSync(join(folder, "config/config.yaml"), `hosts:\n  pve1: ${entry}\n  attic: ${entry}\n`);
  writeFileSync(join(folder, ".local/state/exitnode/journal/pve1-home.jsonl"), "");
  writeFileSync(join(folder, ".local/state/exitnode/journal/gone-home.jsonl"), "");
});

function shell(program: string, args: readonly string[]): string[] {
  const ran = spawnSync(program, args, { cwd: folder, env, encoding: "utf8", timeout: 60_000 });
  assert.equal(ran.status, 0, `${ran.stdout}${ran.stderr}`);
  assert.equal(ran.stderr, "");
  return ran.stdout.split("\n").filter((line) => line !== "");
}

/** A shell that is not on this machine cannot be asked. */
const missing = (program: string): string | false =>
  spawnSync("sh", ["-c", `command -v ${program}`], { env }).status === 0 ? false : `${program} is not on this machine`;

const REAL: readonly { words: readonly string[]; offers: readonly string[] }[] = [
  { words: ["host", "l"], offers: ["list"] },
  { words: ["host", "check", ""], offers: ["pve1", "attic"] },
  { words: ["destroy", "--host", "pve1", ""], offers: ["home"] },
  { words: ["create", "--ip"], offers: ["--ip", "--ip6"] },
];

for (const { words, offers } of REAL) {
  test(`bash offers ${offers.join(", ")} after "${words.join(" ")}"`, () => {
    const script = `. <(exitnode completion bash); COMP_WORDS=(exitnode "$@"); COMP_CWORD=$#; _exitnode; printf '%s\\n' "\${COMPREPLY[@]}"`;
    assert.deepEqual(shell("bash", ["-c", script, "bash", ...words]), offers);
  });

  test(`zsh offers ${offers.join(", ")} after "${words.join(" ")}"`, { skip: missing("zsh") }, () => {
    // The script's own words, with zsh's display replaced by a list.
    const script = `compdef() { :; }; _files() { :; }; _describe() { print -l -- "\${(@)found%%:*}"; }
      . <(exitnode completion zsh); words=(exitnode "$@"); CURRENT=$(( $# + 1 )); _exitnode`;
    assert.deepEqual(shell("zsh", ["-f", "-c", script, "zsh", ...words]), offers);
  });

  test(`fish offers ${offers.join(", ")} after "${words.join(" ")}"`, { skip: missing("fish") }, () => {
    const line = ["exitnode", ...words].join(" ");
    const script = `exitnode completion fish | source; complete --do-complete='${line}'`;
    const found = shell("fish", ["--no-config", "-c", script]).map((one) => one.split("\t")[0] ?? "");
    assert.deepEqual(new Set(found), new Set(offers));
  });
}

test("a broken config offers no host, and says nothing in the middle of the line", () => {
  const path = join(folder, "broken");
  mkdirSync(path, { recursive: true });
  writeFileSync(join(path, "config.yaml"), "hosts: [");
  const ran = spawnSync(process.execPath, [main, "complete", "bash", "host", "check", ""], {
    env: { ...env, EXITNODE_CONFIG: path },
    encoding: "utf8",
  });
  assert.deepEqual([ran.status, ran.stdout.trim(), ran.stderr], [0, "", ""]);
});
