import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { describeUp } from "../../src/cli/up.js";
import { localExec } from "../../src/sys/exec.js";
import { serveLines } from "../../src/sys/localsocket.js";
import { tryLock } from "../../src/sys/lock.js";
import { DEVICE_FILES } from "../../src/wire/agentconfig.js";
import type { AgentStatus } from "../../src/wire/agentsocket.js";

const main = fileURLToPath(new URL("../../src/main.js", import.meta.url));

test("a second up says which process is at it, and changes nothing", async () => {
  const folder = mkdtempSync(join(tmpdir(), "exn-up-"));
  const free = await tryLock(`exitnode-up-${folder}`);
  const env = { EXITNODE_ETC: folder, EXITNODE_VAR: folder, EXITNODE_RUN: folder, PATH: process.env.PATH ?? "" };
  const ran = await localExec.run([process.execPath, main, "up", "--json"], { env });
  assert.equal(ran.exitCode, 1);
  const { code, message } = JSON.parse(ran.stdout).error;
  assert.deepEqual(
    [code, message],
    ["already-running", `another \`exitnode up\` is at work on this machine (process ${process.pid})`],
  );
  await free?.();
  assert.deepEqual(readdirSync(folder), []);
  rmSync(folder, { recursive: true });
});

const OWN: AgentStatus = {
  ...{ version: "0.1.0", name: "attic", role: "device", addresses: [], dataPlane: "userspace" },
  ...{ interface: "exn0", listenPort: 51820, coordinator: { connected: true }, warnings: [] },
  peers: [
    { name: "home", role: "exit-node", addresses: [], online: true, path: "direct", receivedBytes: 0, sentBytes: 0 },
  ],
};

test("up names an exit to use, and none while one is in use already", () => {
  assert.equal(describeUp(OWN), "attic is up: \nnext: exitnode use home");
  const exit = { name: "home", ipv4: true, ipv6: true, state: "active" as const };
  assert.equal(describeUp({ ...OWN, exit }), "attic is up: \nthrough home, as before\nnext: exitnode status");
});

test("down calls the device as the network does, whatever it was called when it joined", async () => {
  const folder = mkdtempSync(join(tmpdir(), "exn-down-"));
  const coordinator = `{ urls: ["https://192.0.2.22"], publicKey: "${"A".repeat(43)}=" }`;
  writeFileSync(join(folder, DEVICE_FILES.config), `name: laptop\nrole: device\ncoordinator: ${coordinator}\n`);
  const stop = await serveLines(join(folder, DEVICE_FILES.socket), 0o600, async (request) => ({
    ok: true,
    value: JSON.stringify(request).includes("status") ? OWN : null,
  }));
  const env = { EXITNODE_ETC: folder, EXITNODE_VAR: folder, EXITNODE_RUN: folder, PATH: process.env.PATH ?? "" };
  try {
    const ran = await localExec.run([process.execPath, main, "down"], { env });
    assert.deepEqual([ran.stdout, ran.stderr], ["attic is down\n", ""]);
  } finally {
    await stop();
    rmSync(folder, { recursive: true });
  }
});
