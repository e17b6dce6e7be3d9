import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { hashPassword } from "../../src/lab/pve/accounts.js";
import { readCertificate } from "../../src/lab/pve/certificate.js";
import { lxcRuntime } from "../../src/lab/pve/lxc.js";
import { openPve, type Pve } from "../../src/lab/pve/pve.js";
import { closePve, listenPve } from "../../src/lab/pve/server.js";
import { applyAccess, planAccess } from "../../src/pve/bootstrap.js";
import { connectPve } from "../../src/pve/client.js";
import type { PveHost } from "../../src/pve/guests.js";
import { holds, missing, needsForCreate, needsForSave } from "../../src/pve/permissions.js";
import { systemClock } from "../../src/sys/clock.js";
import { openHttps } from "../../src/sys/https.js";

/** The client against the lab's Proxmox API, which shares no code with it. No container is made here. */
const folder = mkdtempSync(join(tmpdir(), "exn-pve-"));
const PASSWORD = "correct horse";
const WISH = { nodes: ["pve1"], storages: ["local"], bridges: [{ name: "vmbr0" }] };
let close: () => Promise<void>;
let connect: (login: string, secret: string) => PveHost;

before(async () => {
  const storageDir = join(folder, "storage");
  mkdirSync(storageDir);
  const certificate = await readCertificate(folder, "pve1");
  const { fingerprint } = certificate;
  const runtime = lxcRuntime(folder);
  const pve: Pve = openPve({
    nodeName: "pve1",
    stateDir: folder,
    storageDir,
    runtime,
    fingerprint,
    address: "127.0.0.1",
  });
  const root = pve.accounts.users["root@pam"];
  assert.ok(root !== undefined);
  root.password = hashPassword(PASSWORD);
  const server = await listenPve(pve, { certificate, address: "127.0.0.1", port: 0, delayMs: 0 });
  const https = openHttps();
  const url = `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
  connect = (login, secret) => connectPve({ https, clock: systemClock }, { url, fingerprint, login, secret });
  close = async () => {
    https.close();
    await closePve(pve, server);
  };
});
after(async () => {
  await close();
  rmSync(folder, { recursive: true, force: true });
});

const tokenOf = async (root: ReturnType<typeof connect>) => applyAccess(root, await planAccess(root, WISH));

test("a root login makes a token that lacks nothing for create and upgrade, and may not do more", async () => {
  const root = connect("root@pam", PASSWORD);
  const { tokenId, secret } = await tokenOf(root);
  const token = connect(tokenId, secret);
  const plan = { node: "pve1", storage: "local", templateStorage: "local", bridge: "vmbr0", upload: true };
  const saves = (["snapshot", "backup", "copy"] as const).flatMap((how) => needsForSave(how, { rootStorage: "local" }));
  const needs = [...needsForCreate(plan), ...saves];
  assert.deepEqual(missing(await token.permissions(needs.map(({ path }) => path)), needs), []);
  assert.deepEqual(missing(await token.permissions(), needs), []);
  assert.equal(holds(await token.permissions(["/"]), "/", "VM.Audit"), false);
  await assert.rejects(
    token.users().then(() => token.setRole("Mine", ["VM.Audit"], false)),
    { code: "permission-missing" },
  );
  assert.deepEqual(
    (await planAccess(root, WISH)).map((step) => step.do),
    ["token", "acl", "acl", "acl", "acl"],
  );
});

test("a token uploads a template whose sum is right, and one whose sum is wrong does not arrive", async () => {
  const { tokenId, secret } = await tokenOf(connect("root@pam", PASSWORD));
  const pve = connect(tokenId, secret);
  const content = Buffer.alloc(1_000_000, "x");
  const path = join(folder, "made");
  writeFileSync(path, content);
  const file = {
    path,
    name: "good_1.0_amd64.tar.zst",
    sizeBytes: content.length,
    sha512: createHash("sha512").update(content).digest("hex"),
  };
  assert.equal((await pve.upload("pve1", "local", file)).volid, "local:vztmpl/good_1.0_amd64.tar.zst");
  const bad = { ...file, name: "bad_1.0_amd64.tar.zst", sha512: "0".repeat(128) };
  await assert.rejects(pve.upload("pve1", "local", bad), { code: "checksum-mismatch" });
  assert.deepEqual(
    (await pve.templates("pve1", "local")).map(({ sizeBytes }) => sizeBytes),
    [content.length],
  );
});

test("what the host refuses comes back under its code", async () => {
  const { tokenId, secret } = await tokenOf(connect("root@pam", PASSWORD));
  const pve = connect(tokenId, secret);
  const params = {
    vmid: 101,
    ostemplate: "local:vztmpl/nope.tar.zst",
    unprivileged: true,
    memory: 512,
    rootfs: "local:2",
    net0: "name=eth0,bridge=vmbr0,ip=dhcp",
  };
  await assert.rejects(pve.create("pve1", { ...params, memory: 5 }), { code: "parameters-refused" });
  await assert.rejects(pve.create("pve1", { ...params, dev0: "/dev/net/tun" }), { code: "root-only" });
  await assert.rejects(pve.create("pve1", { ...params, rootfs: "tank:2" }), { code: "permission-missing" });
  const upid = await pve.create("pve1", params);
  await assert.rejects(pve.waitTask(upid), { code: "template-missing" });
  assert.equal(
    (await pve.taskLog(upid)).at(-1),
    "TASK ERROR: unable to create CT 101 - volume 'local:vztmpl/nope.tar.zst' does not exist",
  );
  assert.equal(await pve.config("pve1", 101), undefined);
  await assert.rejects(pve.destroy("pve1", 101), { code: "container-unknown" });
  await assert.rejects(connect(tokenId, "wrong").version(), { code: "login-refused" });
});
