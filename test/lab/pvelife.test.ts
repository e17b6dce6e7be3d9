import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, rmSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { prepareAccess } from "../../src/lab/pve/access.js";
import { readCertificate } from "../../src/lab/pve/certificate.js";
import { destroyAllContainers } from "../../src/lab/pve/containers.js";
import { lxcRuntime } from "../../src/lab/pve/lxc.js";
import { openPve, type Pve } from "../../src/lab/pve/pve.js";
import { closePve, listenPve } from "../../src/lab/pve/server.js";
import { DEFAULT_STORAGES } from "../../src/lab/pve/storage.js";
import { connectPve } from "../../src/pve/client.js";
import type { PveHost } from "../../src/pve/guests.js";
import type { PveRecovery } from "../../src/pve/recovery.js";
import type { Upid } from "../../src/pve/upid.js";
import { systemClock } from "../../src/sys/clock.js";
import { openHttps } from "../../src/sys/https.js";

/**
 * Snapshots, backups, restores and clones of a real container, asked for by our own client with the lab's
 * least-privilege token. Needs root, LXC, and a Debian root file system in EXITNODE_TEST_ROOTFS.
 */
const NAMESPACE = "exn-lp-life";
const ARCHIVE = process.env.EXITNODE_TEST_ROOTFS ?? "";
const skip = process.getuid?.() !== 0 || !existsSync(ARCHIVE) ? "needs root and EXITNODE_TEST_ROOTFS" : false;
const TEMPLATE = `debian-13-test_1.0_amd64${/\.tar(\.\w+)?$/.exec(ARCHIVE)?.[0] ?? ".tar"}`;
/** Far from the numbers of the lab's containers: control groups go by number alone. */
const [VMID, COPY, CLONE] = [91_201, 91_202, 91_203];

const enter = ["/usr/bin/nsenter", `--net=/run/netns/${NAMESPACE}`, "--"];
const folder = "/var/tmp/exn-lp-life";
let pve: Pve;
let server: Awaited<ReturnType<typeof listenPve>>;
let host: PveHost & PveRecovery;
let root: PveHost;
const https = openHttps();

const dirs = (): { stateDir: string; storageDir: string } => ({
  stateDir: join(folder, "state"),
  storageDir: join(folder, "storage"),
});

before(async () => {
  if (skip) return;
  execFileSync("sh", ["-c", `ip netns delete ${NAMESPACE} 2>/dev/null; ip netns add ${NAMESPACE}`]);
  const ip = (...args: string[]): unknown => execFileSync("ip", ["-n", NAMESPACE, ...args]);
  ip("link", "add", "vmbr0", "type", "bridge");
  ip("link", "set", "vmbr0", "up");
  // What a run that was killed left.
  await destroyAllContainers(dirs());
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  execFileSync("chmod", ["755", folder]);
  const { stateDir, storageDir } = dirs();
  mkdirSync(join(storageDir, "local/template/cache"), { recursive: true });
  execFileSync("cp", ["--reflink=auto", ARCHIVE, join(storageDir, "local/template/cache", TEMPLATE)]);
  const access = await prepareAccess(stateDir);
  const certificate = await readCertificate(stateDir, "pve1");
  const { fingerprint } = certificate;
  const runtime = lxcRuntime(stateDir, enter);
  pve = openPve({
    nodeName: "pve1",
    ...dirs(),
    runtime,
    fingerprint,
    address: "127.0.0.1",
    storages: DEFAULT_STORAGES,
  });
  server = await listenPve(pve, { certificate, address: "127.0.0.1", port: 0, delayMs: 0 });
  const url = `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const parts = { https, clock: systemClock };
  host = connectPve(parts, { url, fingerprint, login: access.token.id, secret: access.token.secret });
  root = connectPve(parts, { url, fingerprint, login: "root@pam", secret: access.rootPassword });
});

after(async () => {
  https.close();
  if (skip) return;
  await closePve(pve, server);
  await destroyAllContainers(dirs());
  rmSync(folder, { recursive: true, force: true });
  execFileSync("ip", ["netns", "delete", NAMESPACE]);
});

const done = (upid: Upid, who: PveHost = host): Promise<{ warnings: number; log: readonly string[] }> =>
  who.waitTask(upid);

const inside = (vmid: number, script: string): string =>
  execFileSync(
    enter[0] ?? "",
    [...enter.slice(1), "lxc-attach", "-P", join(dirs().stateDir, "lxc"), "-n", String(vmid), "--", "sh", "-c", script],
    { encoding: "utf8" },
  ).trim();

const params = (vmid: number, storage: string) => ({
  vmid,
  ostemplate: `local:vztmpl/${TEMPLATE}`,
  hostname: "exit1",
  description: "first words",
  unprivileged: true,
  memory: 256,
  swap: 0,
  features: "nesting=1",
  rootfs: `${storage}:2`,
  net0: "name=eth0,bridge=vmbr0,ip=10.77.8.11/24",
});

test("a rollback brings back files and options of a running container, but not its description", {
  skip,
  timeout: 600_000,
}, async (t) => {
  await done(await host.create("pve1", params(VMID, "local-zfs")));
  await done(await host.start("pve1", VMID));
  inside(VMID, "echo before > /root/state; setfattr -n user.kept -v yes /root/state 2>/dev/null || true");
  assert.equal(await host.canSnapshot("pve1", VMID), true);
  const began = performance.now();
  await done(await host.snapshot("pve1", VMID, "pre_upgrade", "before the upgrade"));
  t.diagnostic(`snapshot of a running container: ${Math.round(performance.now() - began)} ms`);
  assert.equal(
    inside(VMID, "cat /sys/fs/cgroup/*/freezer.state 2>/dev/null | head -1 || true").includes("FROZEN"),
    false,
  );
  inside(VMID, "echo after > /root/state; touch /root/new");
  await host.setConfig("pve1", VMID, { memory: 320, description: "second words" });
  assert.deepEqual(
    (await host.snapshots("pve1", VMID)).map(({ name, description }) => [name, description]),
    [["pre_upgrade", "before the upgrade"]],
  );
  const back = performance.now();
  await done(await host.rollback("pve1", VMID, "pre_upgrade", false));
  t.diagnostic(`rollback: ${Math.round(performance.now() - back)} ms`);
  assert.equal(await host.status("pve1", VMID), "stopped");
  const config = await host.config("pve1", VMID);
  assert.equal(config?.memoryMib, 256);
  assert.equal(config?.description, "second words");
  assert.equal(config?.lock, undefined);
  await done(await host.start("pve1", VMID));
  assert.equal(inside(VMID, "cat /root/state; test -e /root/new || echo gone"), "before\ngone");
});

test("on ZFS an older snapshot than the newest is refused, with the reason, and the container runs on", {
  skip,
  timeout: 600_000,
}, async () => {
  await done(await host.snapshot("pve1", VMID, "later"));
  await assert.rejects(done(await host.rollback("pve1", VMID, "pre_upgrade", false)), { code: "snapshot-not-newest" });
  assert.equal(await host.status("pve1", VMID), "running");
  await done(await host.deleteSnapshot("pve1", VMID, "later"));
  await assert.rejects(done(await host.rollback("pve1", VMID, "later", false)), { code: "snapshot-unknown" });
  await done(await host.deleteSnapshot("pve1", VMID, "pre_upgrade"));
  assert.deepEqual(await host.snapshots("pve1", VMID), []);
  assert.deepEqual(readdirSync(join(dirs().storageDir, "local-zfs/snapshots")), []);
});

test("a backup of a running container restores to a new one that starts with the same files", {
  skip,
  timeout: 600_000,
}, async (t) => {
  const began = performance.now();
  const { log } = await done(
    await host.backup("pve1", VMID, "local", { mode: "snapshot", notes: "exitnode {{vmid}} before 1.1" }),
  );
  t.diagnostic(`backup of a running container: ${Math.round(performance.now() - began)} ms`);
  assert.ok(log.includes("INFO: create storage snapshot 'vzdump'"));
  assert.equal(await host.status("pve1", VMID), "running");
  assert.equal((await host.config("pve1", VMID))?.lock, undefined);
  const [backup] = await host.backups("pve1", "local", VMID);
  assert.ok(backup !== undefined && backup.sizeBytes > 1_000_000);
  assert.equal(backup.notes, `exitnode ${VMID} before 1.1`);
  t.diagnostic(`archive: ${Math.round(backup.sizeBytes / 1024 ** 2)} MiB`);
  const again = performance.now();
  await done(await host.restore("pve1", { vmid: COPY, backup: backup.volid, storage: "local", unique: true }));
  t.diagnostic(`restore: ${Math.round(performance.now() - again)} ms`);
  const [old, made] = [await host.config("pve1", VMID), await host.config("pve1", COPY)];
  assert.match(made?.options.rootfs ?? "", new RegExp(`^local:${COPY}/vm-${COPY}-disk-0.raw,size=2G$`));
  assert.notEqual(made?.options.net0, old?.options.net0);
  assert.equal(made?.description, "second words");
  await done(await host.start("pve1", COPY));
  assert.equal(inside(COPY, "cat /root/state; ls /etc/vzdump 2>/dev/null | wc -l; stat -c %u /root"), "before\n0\n0");
});

test("over a container that is there, a restore needs force, and it stopped", { skip, timeout: 600_000 }, async () => {
  const [backup] = await host.backups("pve1", "local", VMID);
  const wanted = { vmid: COPY, backup: backup?.volid ?? "", storage: "local" };
  await assert.rejects(host.restore("pve1", wanted), { code: "vmid-taken" });
  await assert.rejects(host.restore("pve1", { ...wanted, force: true }), { code: "container-running" });
  inside(COPY, "echo broken > /root/state");
  await done(await host.stop("pve1", COPY));
  await done(await host.restore("pve1", { ...wanted, force: true }));
  await done(await host.start("pve1", COPY));
  assert.equal(inside(COPY, "cat /root/state"), "before");
  assert.deepEqual(readdirSync(join(dirs().storageDir, `local/images/${COPY}`)), [`vm-${COPY}-disk-1.raw`]);
});

test("a directory storage refuses snapshots, and backs up with the container standing still", {
  skip,
  timeout: 600_000,
}, async () => {
  assert.equal(await host.canSnapshot("pve1", COPY), false);
  await assert.rejects(done(await host.snapshot("pve1", COPY, "no_way")), { code: "snapshot-unsupported" });
  const { log } = await done(await host.backup("pve1", COPY, "local", { mode: "snapshot" }));
  assert.ok(log.includes("INFO: mode failure - some volumes do not support snapshots"));
  assert.ok(log.includes("INFO: resuming guest"));
  assert.equal(inside(COPY, "cat /root/state"), "before", "it goes on");
  for (const { volid } of await host.backups("pve1", "local", COPY))
    await done(await host.deleteVolume("pve1", "local", volid));
  assert.deepEqual(await host.backups("pve1", "local", COPY), []);
});

test("a clone is made of a stopped container, or of a snapshot of a running one, with a MAC of its own", {
  skip,
  timeout: 600_000,
}, async (t) => {
  const wanted = { newid: CLONE, hostname: "exit2", full: true };
  await assert.rejects(root.clone("pve1", VMID, wanted), { code: "container-running" });
  await done(await host.snapshot("pve1", VMID, "golden"));
  const began = performance.now();
  await done(await root.clone("pve1", VMID, { ...wanted, snapname: "golden" }), root);
  t.diagnostic(`full clone: ${Math.round(performance.now() - began)} ms`);
  const [old, made] = [await host.config("pve1", VMID), await host.config("pve1", CLONE)];
  assert.equal(made?.hostname, "exit2");
  assert.equal(made?.lock ?? old?.lock, undefined);
  assert.notEqual(made?.options.net0, old?.options.net0);
  assert.deepEqual(await root.snapshots("pve1", CLONE), []);
  await done(await host.start("pve1", CLONE));
  assert.equal(inside(CLONE, "cat /root/state /etc/hostname"), "before\nexit2");
});

test("destroying takes disks and snapshots along", { skip, timeout: 600_000 }, async () => {
  for (const vmid of [VMID, COPY, CLONE]) {
    await done(await host.stop("pve1", vmid));
    await done(await host.destroy("pve1", vmid));
  }
  for (const storage of ["local", "local-zfs"])
    for (const kind of ["images", "snapshots"])
      assert.deepEqual(readdirSync(join(dirs().storageDir, storage, kind), { recursive: true }).slice(0, 20), []);
});
