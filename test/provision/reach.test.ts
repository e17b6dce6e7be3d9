import assert from "node:assert/strict";
import { test } from "node:test";
import { Failure } from "../../src/kit/failure.js";
import { DIRECT_TIMEOUT_MS, reaching } from "../../src/provision/reach.js";
import type { Ssh, SshTarget } from "../../src/sys/ssh.js";

const ssh: Ssh = {
  run: async () => ({ exitCode: 0, stdout: "", stderr: "" }),
  push: async () => {},
  close() {},
};
const TARGET: SshTarget = { address: "192.168.1.5", user: "root", privateKey: "k", hostKey: "SHA256:c" };
const JUMP: SshTarget = { address: "192.168.1.10", user: "root", privateKey: "k", hostKey: "SHA256:j" };

/** What answers directly and what behind the jump host; everything that was tried is kept. */
function world(direct: string | undefined, behind?: string | undefined) {
  const tried: string[] = [];
  const open = async (target: SshTarget): Promise<Ssh> => {
    tried.push(target.via === undefined ? `direct within ${target.readyTimeoutMs ?? "its time"}` : target.via.address);
    const code = target.via === undefined ? direct : behind;
    if (code !== undefined) throw new Failure(code, `cannot reach root@${target.address} over SSH`);
    return ssh;
  };
  return { tried, open };
}

test("a container that answers is reached directly, jump host or not", async () => {
  const { tried, open } = world(undefined, "ssh-unreachable");
  await reaching(open, JUMP, "pve1")(TARGET);
  assert.deepEqual(tried, [`direct within ${DIRECT_TIMEOUT_MS}`]);
});

for (const code of ["ssh-unreachable", "ssh-refused", "ssh-key-refused", "host-key-mismatch"])
  test(`${code} at its address is taken for "not here": the jump host leads on, and is remembered`, async () => {
    const { tried, open } = world(code);
    const reach = reaching(open, JUMP, "pve1");
    await reach(TARGET);
    await reach(TARGET);
    assert.deepEqual(tried, [`direct within ${DIRECT_TIMEOUT_MS}`, JUMP.address, JUMP.address]);
  });

test("what else goes wrong is no reason to go another way", async () => {
  const { tried, open } = world("interrupted");
  await assert.rejects(reaching(open, JUMP, "pve1")(TARGET), { code: "interrupted" });
  assert.equal(tried.length, 1);
});

test("a jump that fails is tried directly again the next time: somebody may have come home", async () => {
  const { tried, open } = world("ssh-unreachable", "ssh-jump-failed");
  const reach = reaching(open, JUMP, "pve1");
  await assert.rejects(reach(TARGET), { code: "ssh-jump-failed" });
  await assert.rejects(reach(TARGET), { code: "ssh-jump-failed" });
  assert.equal(tried.filter((way) => way.startsWith("direct")).length, 2);
});

test("without a jump host, an unreachable container is a Failure that says how to name one", async () => {
  const { open } = world("ssh-unreachable");
  await assert.rejects(reaching(open, undefined, "pve1")(TARGET), (error: unknown) => {
    assert.ok(error instanceof Failure && error.code === "ssh-unreachable");
    assert.match(error.message, /names no way through the Proxmox host either$/);
    assert.match(error.advice ?? "", /exitnode host add pve1 --ssh-jump root@HOST$/);
    return true;
  });
});
