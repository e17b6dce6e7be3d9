import assert from "node:assert/strict";
import { appendFileSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, afterEach, before, describe, test } from "node:test";
import { provisionParts } from "../../src/cli/createparts.js";
import { noProgress } from "../../src/cli/createprogress.js";
import { addHost, type HostAddWorld } from "../../src/cli/hostadd.js";
import { hostCheck } from "../../src/cli/hostcheck.js";
import { openHost } from "../../src/cli/hosts.js";
import { Failure } from "../../src/kit/failure.js";
import type { Finding } from "../../src/provision/preflight/finding.js";
import { ROLES } from "../../src/pve/permissions.js";
import { localExec, mustRun } from "../../src/sys/exec.js";
import { localFiles } from "../../src/sys/files.js";
import { openHttps } from "../../src/sys/https.js";
import { openSsh } from "../../src/sys/ssh.js";
import { ensureSshKey } from "../../src/sys/sshkey.js";
import { startFakeHost } from "../pve/fakehost.js";
import { openDoor, type Sshd, sshdMissing, startSshd } from "../sys/sshd.js";
import { type Home, makeHome, smallPve } from "./hostworld.js";

const SECRET = "11111111-2222-3333-4444-555555555555";
const TOKEN = "exitnode@pve!cli";
const RIGHTS = { "/": Object.values(ROLES).flat() };

const NETNS = "exn-p6-jump";

/** The sshd of a Proxmox host and that of a container, both real; the container's is in a network of the host's. */
describe("an SSH jump through the host", { skip: sshdMissing }, () => {
  let jump: Sshd;
  let door: Awaited<ReturnType<typeof openDoor>>;
  let container: Sshd;
  let mine: Home;
  let call: Home["call"];
  let world: HostAddWorld;
  let where: string;
  const open: (() => Promise<void> | void)[] = [];
  before(async () => {
    // What an earlier run that was killed left goes first.
    await localExec.run(["ip", "netns", "del", NETNS]);
    await mustRun(localExec, ["ip", "netns", "add", NETNS]);
    await mustRun(localExec, ["ip", "-n", NETNS, "link", "set", "lo", "up"]);
    jump = await startSshd();
    door = await openDoor(jump, NETNS);
    // It listens on a loopback that only sessions of the jump host are on.
    container = await startSshd([], NETNS);
  });
  after(async () => {
    await container?.close();
    door?.close();
    await jump?.close();
    await localExec.run(["ip", "netns", "del", NETNS]);
  });
  afterEach(async () => {
    for (const close of open.splice(0)) await close();
  });

  /** A host in the config, and this administrator's key let in by both machines. */
  async function kept(): Promise<void> {
    const host = await startFakeHost(smallPve(`PVEAPIToken=${TOKEN}=${SECRET}`, RIGHTS));
    mine = makeHome();
    call = mine.call;
    const https = openHttps();
    open.push(host.close, mine.remove, () => https.close());
    world = { https, prompt: undefined, secretFromStdin: async () => SECRET };
    const { publicKey } = await ensureSshKey(localFiles, mine.folder);
    for (const { folder } of [jump, container]) appendFileSync(join(folder, "authorized"), `${publicKey}\n`);
    where = `root@127.0.0.1:${door.port}`;
    const options = { url: host.url, token: TOKEN, fingerprint: host.fingerprint, secretStdin: true };
    await addHost(call(["pve1"], options), world);
  }

  const addJump = (options: Record<string, string> = {}) =>
    addHost(call(["pve1"], { sshJump: where, ...options }), world);

  test("is added to a kept host without asking for its URL or secret again, and its host key is pinned", async () => {
    await kept();
    const outcome = await addJump({ sshHostKey: jump.target.hostKey });
    assert.deepEqual(outcome.value, { name: "pve1", jump: where });
    const config = readFileSync(join(mine.folder, "config.yaml"), "utf8");
    assert.ok(config.includes(`jump: ${where}`) && config.includes(jump.target.hostKey));
    const { findings } = (await hostCheck(call(["pve1"]))).value as { findings: Finding[] };
    assert.equal(findings.find(({ name }) => name === "SSH jump")?.severity, "fine");
  });

  test("whose host key nobody confirmed is not kept", async () => {
    await kept();
    await assert.rejects(addJump(), (error: unknown) => {
      assert.ok(error instanceof Failure && error.code === "host-key-unconfirmed");
      return error.advice?.includes(jump.target.hostKey) === true;
    });
    await assert.rejects(addJump({ sshHostKey: container.target.hostKey }), { code: "host-key-mismatch" });
    assert.equal((await openHost(call([]).parts, "pve1")).entry.ssh, undefined);
  });

  test("leads to a container that only the host reaches, with the container's own key judged", async () => {
    await kept();
    await addJump({ sshHostKey: jump.target.hostKey });
    const opened = await openHost(call([]).parts, "pve1");
    const parts = await provisionParts(call([]), opened, noProgress);
    const { port = 0, hostKey } = container.target;
    const target = { address: "127.0.0.1", port, user: "root", privateKey: parts.sshKey.privateKey, hostKey };
    await assert.rejects(openSsh(target), { code: "ssh-refused" }, "it is not reached from here");
    const ssh = await parts.openSsh(target);
    assert.equal((await ssh.run(["echo", "here"])).stdout, "here\n");
    ssh.close();
    const stranger = { ...target, hostKey: jump.target.hostKey };
    await assert.rejects(parts.openSsh(stranger), { code: "host-key-mismatch" });
    assert.ok(parts.hostShell !== undefined, "root's shell on the host is there too");
    opened.pve.close();
  });

  test("that was written into the config by hand is not used before its key is confirmed", async () => {
    await kept();
    const path = join(mine.folder, "config.yaml");
    const text = readFileSync(path, "utf8").replace("    defaults:", `    ssh:\n      jump: ${where}\n    defaults:`);
    await localFiles.write(path, text);
    const opened = await openHost(call([]).parts, "pve1");
    await assert.rejects(provisionParts(call([]), opened, noProgress), (error: unknown) => {
      assert.ok(error instanceof Failure && error.code === "host-key-unconfirmed");
      return error.advice === `exitnode host add pve1 --ssh-jump ${where}`;
    });
    opened.pve.close();
  });
});
