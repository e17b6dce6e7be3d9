import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { prepareAccess } from "../../src/lab/pve/access.js";
import { readCertificate } from "../../src/lab/pve/certificate.js";
import { openPve, type Pve } from "../../src/lab/pve/pve.js";
import { closePve, listenPve } from "../../src/lab/pve/server.js";
import { LOCAL_ENTRY } from "../../src/lab/pve/storage.js";
import { connectPve } from "../../src/pve/client.js";
import type { PveHost } from "../../src/pve/guests.js";
import type { PveRecovery } from "../../src/pve/recovery.js";
import { systemClock } from "../../src/sys/clock.js";
import { openHttps } from "../../src/sys/https.js";
import { ModelRuntime } from "./pvemodel.js";

/** Storages of eleven and of five MiB, each a file system of its own: what fails is the kernel's "no space left". */
const FOLDER = "/var/tmp/exn-lp-full";
const MIB = 1024 * 1024;
const SIZES = { tank: 11, vault: 5 } as const;
const skip = process.getuid?.() === 0 ? false : "mounting needs root";
let pve: Pve;
let server: Awaited<ReturnType<typeof listenPve>>;
let host: PveHost & PveRecovery;
const https = openHttps();

function clean(): void {
  for (const name of Object.keys(SIZES))
    execFileSync("sh", ["-c", `umount -l ${FOLDER}/storage/${name} 2>/dev/null; true`]);
  rmSync(FOLDER, { recursive: true, force: true });
}

before(async () => {
  if (skip) return;
  clean();
  const [stateDir, storageDir] = [join(FOLDER, "state"), join(FOLDER, "storage")];
  for (const [name, mib] of Object.entries(SIZES)) {
    mkdirSync(join(storageDir, name), { recursive: true });
    execFileSync("mount", ["-t", "tmpfs", "-o", `size=${mib}m,mode=755`, "exn-lp", join(storageDir, name)]);
  }
  const cache = join(storageDir, "local/template/cache");
  mkdirSync(cache, { recursive: true });
  for (const [name, mib] of Object.entries({ small: 4, large: 16 })) {
    const tree = join(FOLDER, name);
    mkdirSync(join(tree, "etc"), { recursive: true });
    writeFileSync(join(tree, "etc/os-release"), "ID=debian\nVERSION_ID=13\n");
    writeFileSync(join(tree, "ballast"), randomBytes(mib * MIB));
    execFileSync("tar", ["-C", tree, "-I", "zstd -1", "-cf", join(cache, `${name}_1.0_amd64.tar.zst`), "."]);
  }
  execFileSync("chmod", ["755", FOLDER]);
  const { rootPassword } = await prepareAccess(stateDir);
  const certificate = await readCertificate(stateDir, "pve1");
  const { fingerprint } = certificate;
  const storages = [
    LOCAL_ENTRY,
    { id: "tank", type: "zfspool", content: ["rootdir"] },
    { id: "vault", type: "dir", content: ["backup"] },
  ] as const;
  const runtime = new ModelRuntime();
  pve = openPve({ nodeName: "pve1", stateDir, storageDir, runtime, fingerprint, address: "127.0.0.1", storages });
  server = await listenPve(pve, { certificate, address: "127.0.0.1", port: 0, delayMs: 0 });
  const url = `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
  host = connectPve({ https, clock: systemClock }, { url, fingerprint, login: "root@pam", secret: rootPassword });
});

after(async () => {
  https.close();
  if (skip) return;
  await closePve(pve, server);
  clean();
});

const template = (name: string) => `local:vztmpl/${name}_1.0_amd64.tar.zst`;
const params = (vmid: number, name: string) => ({
  vmid,
  ostemplate: template(name),
  unprivileged: true,
  features: "nesting=1",
  rootfs: "tank:1",
});

test("a storage tells the true figures of its file system", { skip }, async () => {
  const found = (await host.storages("pve1")).find(({ id }) => id === "tank");
  assert.equal(found?.totalBytes, SIZES.tank * MIB);
  const resource = (await host.resources()).storages.find(({ id }) => id === "vault");
  assert.equal(resource?.totalBytes, SIZES.vault * MIB);
  assert.ok(resource.usedBytes < MIB);
});

test("a create that does not fit ends as storage-full though Proxmox only tells tar's exit code", {
  skip,
}, async () => {
  const upid = await host.create("pve1", params(101, "large"));
  await assert.rejects(host.waitTask(upid), { code: "storage-full" });
  const log = await host.taskLog(upid);
  assert.match(log.at(-1) ?? "", /^TASK ERROR: unable to create CT 101 - command '.*tar.*' failed: exit code 2$/);
  assert.equal(await host.config("pve1", 101), undefined);
  assert.deepEqual(readdirSync(join(FOLDER, "storage/tank/images")), []);
});

test("a snapshot that does not fit leaves the container as it was, unlocked, with the snapshot before", {
  skip,
}, async () => {
  await host.waitTask(await host.create("pve1", params(102, "small")));
  await host.waitTask(await host.snapshot("pve1", 102, "first"));
  await assert.rejects(host.waitTask(await host.snapshot("pve1", 102, "second")), { code: "storage-full" });
  assert.deepEqual(
    (await host.snapshots("pve1", 102)).map(({ name }) => name),
    ["first"],
  );
  assert.equal((await host.config("pve1", 102))?.lock, undefined);
  assert.equal(existsSync(join(FOLDER, "storage/tank/snapshots/102/subvol-102-disk-0@second")), false);
});

test("a rollback that does not fit keeps the disk, and a lock that says so", { skip }, async () => {
  await assert.rejects(host.waitTask(await host.rollback("pve1", 102, "first", false)), { code: "storage-full" });
  assert.equal((await host.config("pve1", 102))?.lock, "rollback");
  assert.ok(existsSync(join(FOLDER, "storage/tank/images/102/subvol-102-disk-0/ballast")));
  pve.guests.unlock(102);
  await host.waitTask(await host.deleteSnapshot("pve1", 102, "first"));
});

test("a backup that does not fit leaves no archive, and tells the space instead of the job", { skip }, async () => {
  await host.waitTask(await host.backup("pve1", 102, "vault", { mode: "stop" }));
  await assert.rejects(host.waitTask(await host.backup("pve1", 102, "vault", { mode: "stop" })), {
    code: "storage-full",
  });
  assert.equal(readdirSync(join(FOLDER, "storage/vault/dump")).length, 1);
  assert.equal((await host.config("pve1", 102))?.lock, undefined);
});
