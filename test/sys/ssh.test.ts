import assert from "node:assert/strict";
import { chmod, readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { Failure } from "../../src/kit/failure.js";
import { localExec } from "../../src/sys/exec.js";
import { localFiles } from "../../src/sys/files.js";
import { openSsh, type Ssh } from "../../src/sys/ssh.js";
import { ensureSshKey } from "../../src/sys/sshkey.js";
import { execContract } from "./execcontract.js";
import { type Sshd, sshdMissing, startSshd } from "./sshd.js";

execContract("this machine", async () => localExec);

describe("a machine over SSH", { skip: sshdMissing }, () => {
  let sshd: Sshd;
  let ssh: Ssh;
  before(async () => {
    sshd = await startSshd();
    ssh = await openSsh(sshd.target);
  });
  after(async () => {
    ssh?.close();
    await sshd?.close();
  });

  execContract("over SSH", async () => ssh);

  test("a pushed file has its content, mode and owner, and nothing is left beside it", async () => {
    const folder = join(sshd.folder, "pushed", "deep");
    const content = Uint8Array.from({ length: 300_000 }, (_, i) => i % 251);
    await ssh.push([
      { path: join(folder, "a'b c.bin"), content, mode: 0o755, owner: "root:root" },
      { path: join(folder, "secret"), content: "s\n", mode: 0o600, owner: "nobody:nogroup" },
    ]);
    assert.deepEqual(new Uint8Array(await readFile(join(folder, "a'b c.bin"))), content);
    assert.equal((await stat(join(folder, "a'b c.bin"))).mode & 0o7777, 0o755);
    const secret = await stat(join(folder, "secret"));
    assert.equal(secret.mode & 0o7777, 0o600);
    assert.equal(secret.uid, 65534);
    assert.deepEqual((await readdir(folder)).sort(), ["a'b c.bin", "secret"]);
  });

  test("a push that fails half-way replaces nothing and leaves nothing beside", async () => {
    const folder = join(sshd.folder, "half");
    await ssh.push([{ path: join(folder, "f"), content: "old", mode: 0o644, owner: "root:root" }]);
    const push = ssh.push([{ path: join(folder, "f"), content: "new", mode: 0o644, owner: "no-such-user:root" }]);
    await assert.rejects(push, (error) => error instanceof Failure && error.code === "command-failed");
    assert.equal(await readFile(join(folder, "f"), "utf8"), "old");
    assert.deepEqual(await readdir(folder), ["f"]);
  });

  test("another host key than the pinned one is refused before anything is sent", async () => {
    const target = { ...sshd.target, hostKey: "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" };
    await assert.rejects(openSsh(target), (error) => error instanceof Failure && error.code === "host-key-mismatch");
  });

  test("a key it does not know is refused with advice", async () => {
    const { privateKey } = await ensureSshKey(localFiles, join(sshd.folder, "stranger"));
    await assert.rejects(
      openSsh({ ...sshd.target, privateKey }),
      (error) => error instanceof Failure && error.code === "ssh-key-refused" && error.advice !== undefined,
    );
  });

  test("a closed port is refused, an unroutable address unreachable", async () => {
    const code = (wanted: string) => (error: unknown) => error instanceof Failure && error.code === wanted;
    await assert.rejects(openSsh({ ...sshd.target, port: 1 }), code("ssh-refused"));
    await assert.rejects(openSsh({ ...sshd.target, address: "255.255.255.255" }), code("ssh-unreachable"));
  });

  test("a lost connection ends what was running with a Failure", async () => {
    const other = await openSsh(sshd.target);
    const running = other.run(["sleep", "60"]);
    other.close();
    await assert.rejects(running, (error) => error instanceof Failure && error.code === "exec-failed");
  });

  test("the key pair is made once, readable by its owner alone, and ssh-keygen reads it", async () => {
    const folder = join(sshd.folder, "keys");
    const first = await ensureSshKey(localFiles, folder);
    assert.deepEqual(await ensureSshKey(localFiles, folder), first);
    const path = join(folder, "ssh_ed25519");
    assert.equal((await stat(path)).mode & 0o777, 0o600);
    const shown = await localExec.run(["ssh-keygen", "-yf", path]);
    assert.equal(shown.stdout.trim().split(" ")[1], first.publicKey.split(" ")[1]);
    await chmod(path, 0o600);
  });
});
