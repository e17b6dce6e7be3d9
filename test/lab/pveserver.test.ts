import assert from "node:assert/strict";
import { appendFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { prepareAccess } from "../../src/lab/pve/access.js";
import { readCertificate } from "../../src/lab/pve/certificate.js";
import { emptyConfig, parseConfig, renderConfig } from "../../src/lab/pve/guestconfig.js";
import { openPve, type Pve } from "../../src/lab/pve/pve.js";
import { closePve, dropUnfinished, listenPve, UNAUTHORIZED_DELAY_MS } from "../../src/lab/pve/server.js";
import { renderInterfaces, withSection } from "../../src/lab/pve/setup.js";
import { parseUpid, Tasks } from "../../src/lab/pve/task.js";
import { ModelRuntime } from "./pvemodel.js";
import { pveRequest, tokenHeaders } from "./pverequest.js";

let folder: string;

before(() => {
  folder = mkdtempSync(join(tmpdir(), "exn-pve-"));
});
after(() => rmSync(folder, { recursive: true, force: true }));

async function open(name: string): Promise<Pve> {
  const stateDir = join(folder, name, "state");
  await prepareAccess(stateDir);
  const { fingerprint } = await readCertificate(stateDir, "pve1");
  const storageDir = join(folder, name, "storage");
  return openPve({
    nodeName: "pve1",
    stateDir,
    storageDir,
    runtime: new ModelRuntime(),
    fingerprint,
    address: "127.0.0.1",
  });
}

test("a refused login is answered after three seconds, and an accepted one that comes later before it", async () => {
  const pve = await open("delay");
  const certificate = await readCertificate(pve.stateDir, "pve1");
  const server = await listenPve(pve, { certificate, address: "127.0.0.1", port: 0, delayMs: UNAUTHORIZED_DELAY_MS });
  try {
    const access = await prepareAccess(pve.stateDir);
    const ask = (secret: string) => pveRequest(server, tokenHeaders(access.token.id, secret))("GET", "/version");
    const began = performance.now();
    const order: number[] = [];
    const noted = async (asked: ReturnType<typeof ask>) => {
      const answer = await asked;
      order.push(answer.status);
      return answer;
    };
    const [bad] = await Promise.all([noted(ask("wrong")), noted(ask(access.token.secret))]);
    assert.deepEqual(order, [200, 401]);
    assert.deepEqual([bad.status, bad.reason, bad.text], [401, "Authentication failed!", ""]);
    assert.ok(performance.now() - began >= 2_990);
  } finally {
    await closePve(pve, server);
  }
});

test("a second preparation answers the same secrets, and only root can read them", async () => {
  const stateDir = join(folder, "twice");
  const first = await prepareAccess(stateDir);
  assert.deepEqual(await prepareAccess(stateDir), first);
  assert.equal(first.token.id, "exitnode@pve!lab");
  assert.match(first.fingerprint, /^(?:[0-9A-F]{2}:){31}[0-9A-F]{2}$/);
  for (const name of ["credentials.json", "access.json", "pve-ssl.pem"])
    assert.equal(statSync(join(stateDir, name)).mode & 0o077, 0, name);
});

test("a task that ran when the server died has ended with unexpected status, and keeps its log", async () => {
  const stateDir = join(folder, "tasks");
  mkdirSync(join(stateDir, "tasks"), { recursive: true });
  const upid = "UPID:pve1:00001001:000000D9:6B035AF0:vzcreate:101:exitnode@pve!lab:";
  appendFileSync(join(stateDir, "tasks/index"), `${upid}\n`);
  appendFileSync(join(stateDir, "tasks", upid), "extracting archive\n");
  const tasks = new Tasks(stateDir, "pve1");
  assert.deepEqual(tasks.find(parseUpid(upid)), { kind: "stopped", exit: "unexpected status", endtime: 0x6b035af0 });
  assert.deepEqual(tasks.log(parseUpid(upid)), ["extracting archive"]);
});

test("a create that was cut off by a crash leaves its number free", async () => {
  const pve = await open("crash");
  pve.guests.write(101, emptyConfig({ lock: "create" }));
  pve.guests.write(102, emptyConfig({ lock: "backup" }));
  mkdirSync(join(pve.storages.get("local").root, "images/101/vm-101-disk-0.raw"), { recursive: true });
  dropUnfinished(pve);
  assert.deepEqual(pve.guests.list(), [102], "other locks stay");
  assert.equal(existsSync(join(pve.storages.get("local").root, "images/101")), false);
});

test("a restore over a container that was cut off by a crash leaves the container as it was", async () => {
  const pve = await open("cutoff");
  const images = join(pve.storages.get("local").root, "images/103");
  for (const disk of ["vm-103-disk-0.raw", "vm-103-disk-1.raw"]) mkdirSync(join(images, disk), { recursive: true });
  const options = { hostname: "exit1", rootfs: "local:103/vm-103-disk-0.raw,size=2G" };
  const snapshots = new Map([["cold", { memory: "256", snaptime: "1795353036" }]]);
  pve.guests.write(103, { ...emptyConfig({ ...options, lock: "create" }), snapshots });
  dropUnfinished(pve);
  const { config } = pve.guests.read(103);
  assert.deepEqual(config.options, options);
  assert.deepEqual([...config.snapshots.keys()], ["cold"]);
  assert.deepEqual(readdirSync(images), ["vm-103-disk-0.raw"]);
});

test("a configuration comes back from its file as it was, description and pending changes included", () => {
  const config = {
    options: { memory: "512", description: "two lines\nand 100% of them\n", tags: "a;b" },
    pending: { features: "nesting=0" },
    pendingDelete: new Set(["onboot"]),
    snapshots: new Map([["cold", { memory: "256", description: "before\n", snaptime: "1795353036" }]]),
  };
  assert.equal(
    renderConfig(config),
    "#two lines\n#and 100%25 of them\nmemory: 512\ntags: a;b\n\n[pve:pending]\ndelete: onboot\nfeatures: nesting=0\n\n[cold]\n#before\nmemory: 256\nsnaptime: 1795353036\n",
  );
  assert.deepEqual(parseConfig(renderConfig(config)), config);
});

test("every kind of address becomes its stanza of /etc/network/interfaces", () => {
  const options = {
    net0: "name=eth0,bridge=vmbr0,gw=10.0.0.1,gw6=fd00::1,ip=10.0.0.9/24,ip6=fd00::9/64",
    net1: "name=eth1,bridge=vmbr0,ip=dhcp,ip6=auto",
    net2: "name=eth2,bridge=vmbr0",
  };
  assert.equal(
    renderInterfaces(options),
    `auto lo
iface lo inet loopback

auto eth0
iface eth0 inet static
\taddress 10.0.0.9/24
\tgateway 10.0.0.1
iface eth0 inet6 static
\taddress fd00::9/64
\tgateway fd00::1

auto eth1
iface eth1 inet dhcp
iface eth1 inet6 auto

auto eth2
iface eth2 inet manual
`,
  );
});

test("the section between Proxmox's markers is replaced, the rest of the file stays", () => {
  const once = withSection("first\n", "a\n");
  assert.equal(once, "first\n# --- BEGIN PVE ---\na\n# --- END PVE ---\n");
  assert.equal(withSection(once, "b\n"), "first\n# --- BEGIN PVE ---\nb\n# --- END PVE ---\n");
});
