import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { Call } from "../../src/cli/command.js";
import { pathsFrom } from "../../src/cli/paths.js";
import { rotate } from "../../src/cli/rotate.js";
import { systemClock } from "../../src/sys/clock.js";
import { localExec } from "../../src/sys/exec.js";
import { localFiles } from "../../src/sys/files.js";
import { serveLines } from "../../src/sys/localsocket.js";
import { systemRandom } from "../../src/sys/random.js";
import { DEVICE_FILES } from "../../src/wire/agentconfig.js";
import { HOME, PHONE, World } from "../agent/agentworld.js";

test("an exit node that WireGuard apps know by its key changes it only when they are to be cut off", async (t) => {
  const folder = await mkdtemp(join(tmpdir(), "exn-rotate-"));
  t.after(() => rm(folder, { recursive: true }));
  const running = await new World().start();
  t.after(() => running.stop());
  const status = await running.status();
  const keys = [HOME.publicKey, PHONE.publicKey];
  const asked: string[] = [];
  const close = await serveLines(join(folder, DEVICE_FILES.socket), 0o600, async (question) => {
    const word = (question as { do: string }).do;
    asked.push(word);
    const publicKey = keys[asked.includes("rotate") ? 1 : 0];
    const peers = status.peers.map((peer) => (peer.name === PHONE.name ? { ...peer, app: true } : peer));
    return { ok: true, value: word === "status" ? { ...status, publicKey, peers } : null };
  });
  t.after(close);
  const call = (options: Call["options"]): Call => ({
    ...{ args: [], options, json: false, signal: new AbortController().signal },
    parts: {
      ...{ env: {}, paths: pathsFrom({ EXITNODE_RUN: folder }, "."), exec: localExec, files: localFiles },
      ...{ clock: systemClock, random: systemRandom, say: () => {}, interactive: false },
    },
  });
  await assert.rejects(rotate(call({})), { code: "apps-cut-off", message: /a new key would cut off phone:/ });
  assert.ok(!asked.includes("rotate"));
  assert.match((await rotate(call({ yes: true }))).text, /^laptop has a new WireGuard key/);
});
