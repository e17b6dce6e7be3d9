import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { chmodSync, existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { utf8 } from "../../src/kit/bytes.js";
import { hash } from "../../src/kit/crypto.js";
import { localExec, mustRun } from "../../src/sys/exec.js";
import { decodeJoinKey, encodeJoinKey } from "../../src/wire/joinkey.js";
import { fingerprintOf, lockKeyOf, lockSecretHash, signRecord } from "../../src/wire/lock.js";
import { cannotShip, program, type Ran, run } from "../e2e/world.js";
import { must, placeOf, removePlaces, stop } from "../engine/places.js";

/** `exitnode up --join` with a key that names trusted devices, of which the coordinator shows nothing. */
const LIMIT = { timeout: 300_000 };
const PLACE = "exn-lk-up";
const folder = mkdtempSync(join(tmpdir(), "exn-lk-up-"));
const env = Object.fromEntries(
  ["etc", "var", "run"].map((name) => [`EXITNODE_${name.toUpperCase()}`, join(folder, name)]),
);
let coordinator: ChildProcess;
let joinKey = "";

const typed = (...argv: readonly string[]): Promise<Ran> =>
  run(["ip", "netns", "exec", PLACE, process.execPath, program, ...argv], { env, timeoutMs: 120_000 });

describe("exitnode up --join", { skip: cannotShip }, () => {
  before(async () => {
    chmodSync(folder, 0o755); // the agent is another user
    removePlaces(PLACE);
    await mustRun(localExec, ["ip", "netns", "add", PLACE]);
    await must(placeOf(PLACE), "ip link set lo up");
    const path = fileURLToPath(new URL("lockcoordinator.js", import.meta.url));
    coordinator = spawn("ip", ["netns", "exec", PLACE, process.execPath, "--enable-source-maps", path], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    const lines = createInterface({ input: coordinator.stdout ?? assert.fail("a pipe") });
    for await (const line of lines) {
      joinKey = line.slice(2);
      if (line.startsWith("= ")) break;
    }
  }, LIMIT);
  after(async () => {
    await typed("down");
    coordinator.stdin?.end();
    await stop(coordinator);
    removePlaces(PLACE);
    rmSync(folder, { recursive: true, force: true });
  });

  test(
    "a machine does not join where another list is shown than its key names, and may join afterwards",
    LIMIT,
    async () => {
      const laptop = lockKeyOf(hash(utf8("laptop")));
      const trust = { lock: "0".repeat(32), version: 3, secretHash: lockSecretHash("0".repeat(32)), shutOut: [] };
      const record = signRecord(laptop, { ...trust, keys: [laptop.key] });
      const { code, stderr } = await typed(
        "up",
        "--name",
        "phone",
        "--join",
        encodeJoinKey({ ...decodeJoinKey(joinKey), record }),
      );
      assert.equal(code, 1, stderr);
      const expected = `names the trusted devices ${fingerprintOf(laptop.key)} (version 3); the coordinator shows no device lock`;
      assert.match(stderr, new RegExp(expected.replace(/[()]/g, "\\$&")));
      assert.match(stderr, /exitnode lock status {4}\(on a trusted device\)/);
      for (const left of ["etc/agent.yaml", "var/join.key", "var/lock.json", "var/map.json"])
        assert.equal(existsSync(join(folder, left)), false, left);
      assert.doesNotMatch((await placeOf(PLACE).exec.run(["ip", "-brief", "link"])).stdout, /exn/);

      const again = await typed("up", "--name", "phone", "--join", joinKey);
      assert.equal(again.code, 0, again.stderr);
      assert.match(again.stdout, /^phone is up: 100\.64\.0\.\d+/);
    },
  );
});
