import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { Failure } from "../../src/kit/failure.js";
import { openSsh } from "../../src/sys/ssh.js";
import { type Sshd, sshdMissing, startSshd } from "./sshd.js";

/** Two real sshds on loopback: the one behind lets nobody in who does not come from the one in front. */
describe("a machine behind another one", { skip: sshdMissing }, () => {
  let front: Sshd;
  let behind: Sshd;
  before(async () => {
    front = await startSshd();
    behind = await startSshd();
  });
  after(async () => {
    await behind?.close();
    await front?.close();
  });

  const fails = (code: string, words: RegExp) => (error: unknown) => {
    assert.ok(error instanceof Failure, String(error));
    assert.equal(error.code, code, error.message);
    assert.match(`${error.message}\n${error.advice}`, words);
    return true;
  };

  test("runs programs and takes files through the jump host, each judged by its own host key", async () => {
    const ssh = await openSsh({ ...behind.target, via: front.target });
    try {
      assert.notEqual(front.target.hostKey, behind.target.hostKey);
      const { stdout } = await ssh.run(["sh", "-c", 'echo "$SSH_CONNECTION"']);
      assert.equal(stdout.trim().split(" ")[3], String(behind.target.port), "the program ran on the machine behind");
      const path = join(behind.folder, "pushed");
      await ssh.push([{ path, content: "through\n", mode: 0o600, owner: "root:root" }]);
      assert.equal(await readFile(path, "utf8"), "through\n");
    } finally {
      ssh.close();
    }
  });

  test("a jump host with another key than the pinned one is refused before anything goes through it", async () => {
    const via = { ...front.target, hostKey: behind.target.hostKey };
    await assert.rejects(openSsh({ ...behind.target, via }), fails("ssh-jump-failed", /shows the SSH host key/));
  });

  test("a jump host cannot put itself in the place of the machine behind: that key is judged too", async () => {
    const impostor = { ...behind.target, port: front.target.port ?? 0, via: front.target };
    await assert.rejects(openSsh(impostor), fails("host-key-mismatch", /./));
  });

  test("nothing listening behind is told as refused, with what to try on the jump host", async () => {
    await assert.rejects(
      openSsh({ ...behind.target, port: 1, via: front.target }),
      fails("ssh-refused", /^127\.0\.0\.1 does not lead to 127\.0\.0\.1 port 1: .*\non 127\.0\.0\.1: ssh-keyscan/),
    );
  });

  test("a jump host whose sshd forwards nothing is told apart from a machine that is not there", async () => {
    const closed = await startSshd(["AllowTcpForwarding no"]);
    try {
      await assert.rejects(
        openSsh({ ...behind.target, via: closed.target }),
        fails("ssh-jump-refused", /its sshd forwards nothing\n.*allowtcpforwarding$/),
      );
    } finally {
      await closed.close();
    }
  });

  test("closing the connection closes the one to the jump host too, and ends what was running", async () => {
    const ssh = await openSsh({ ...behind.target, via: front.target });
    const running = ssh.run(["sleep", "60"]);
    ssh.close();
    await assert.rejects(running, { code: "exec-failed" });
  });
});
