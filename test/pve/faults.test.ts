import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, test } from "node:test";
import { Failure } from "../../src/kit/failure.js";
import { prepareAccess } from "../../src/lab/pve/access.js";
import { readCertificate } from "../../src/lab/pve/certificate.js";
import { type Fault, type FaultAct, Faults } from "../../src/lab/pve/fault.js";
import { emptyConfig } from "../../src/lab/pve/guestconfig.js";
import { openPve, type Pve } from "../../src/lab/pve/pve.js";
import { closePve, listenPve } from "../../src/lab/pve/server.js";
import { connectPve } from "../../src/pve/client.js";
import type { PveHost } from "../../src/pve/guests.js";
import type { PveRecovery } from "../../src/pve/recovery.js";
import { openHttps } from "../../src/sys/https.js";
import { ModelRuntime } from "../lab/pvemodel.js";
import { TestClock } from "./testclock.js";

/** Our client against the lab's Proxmox API with something going wrong: which Failure, which advice, how many attempts. */
const open: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const close of open.splice(0).reverse()) await close();
});

type World = { pve: Pve; host: PveHost & PveRecovery; faults: Faults };

async function start(...list: Fault[]): Promise<World> {
  const folder = mkdtempSync(join(tmpdir(), "exn-lp-"));
  open.push(() => rmSync(folder, { recursive: true, force: true }));
  const stateDir = join(folder, "state");
  const access = await prepareAccess(stateDir);
  const certificate = await readCertificate(stateDir, "pve1");
  const { fingerprint } = certificate;
  const pve = openPve({
    nodeName: "pve1",
    stateDir,
    storageDir: join(folder, "storage"),
    runtime: new ModelRuntime(),
    fingerprint,
    address: "127.0.0.1",
  });
  pve.guests.write(101, emptyConfig({ hostname: "exit1", rootfs: "local-zfs:subvol-101-disk-0,size=2G" }));
  const faults = new Faults(...list);
  const server = await listenPve(pve, { certificate, address: "127.0.0.1", port: 0, delayMs: 0, faults });
  open.push(() => closePve(pve, server));
  const https = openHttps();
  open.push(() => https.close());
  // A host that hangs is given up after some seconds here, not thirty; others have all the time they need.
  const hangs = list.some(({ act }) => act.kind === "hang");
  const impatient = {
    ...https,
    request: (one: Parameters<typeof https.request>[0]) =>
      https.request(hangs ? { ...one, deadlineMs: HANG_DEADLINE_MS } : one),
  };
  const login = { login: access.token.id, secret: access.token.secret };
  const url = `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const host = connectPve({ https: impatient, clock: new TestClock() }, { url, fingerprint, ...login });
  return { pve, host, faults };
}

const HANG_DEADLINE_MS = 6_000;
const WRITE = /^(?:POST|PUT|DELETE) /;
const calls = (faults: Faults, match: RegExp): string[] => faults.seen.filter((call) => match.test(call));

async function failure(doing: Promise<unknown>): Promise<Failure> {
  const error = await doing.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  assert.ok(error instanceof Failure, `expected a Failure, got ${String(error)}`);
  return error;
}

const lost: readonly { name: string; act: FaultAct }[] = [
  { name: "is reset before the host acts", act: { kind: "reset", when: "before" } },
  { name: "is reset after the host acted", act: { kind: "reset", when: "after" } },
  { name: "hangs before the host acts", act: { kind: "hang", when: "before" } },
  { name: "hangs after the host acted", act: { kind: "hang", when: "after" } },
  {
    name: "meets a proxy that lost the node (595)",
    act: { kind: "answer", status: 595, reason: "Connection refused", when: "before" },
  },
  {
    name: "meets a proxy that lost the answer (596)",
    act: { kind: "answer", status: 596, reason: "Connection timed out", when: "after" },
  },
];

const writes: readonly { name: string; send: (host: World["host"]) => Promise<unknown> }[] = [
  { name: "a snapshot", send: (host) => host.snapshot("pve1", 101, "pre_upgrade") },
  { name: "a rollback", send: (host) => host.rollback("pve1", 101, "pre_upgrade", true) },
  { name: "a backup", send: (host) => host.backup("pve1", 101, "local", { mode: "suspend" }) },
  { name: "a restore", send: (host) => host.restore("pve1", { vmid: 102, backup: BACKUP, storage: "local" }) },
  { name: "a clone", send: (host) => host.clone("pve1", 101, { newid: 102, full: true }) },
  { name: "a resize", send: (host) => host.resize("pve1", 101, 3) },
  { name: "a change of options", send: (host) => host.setConfig("pve1", 101, { memory: 640 }) },
  { name: "a destroy", send: (host) => host.destroy("pve1", 101) },
];
const BACKUP = "local:backup/vzdump-lxc-101-2026_11_22-13_11_09.tar.zst";

for (const { name, act } of lost)
  test(`a write that ${name} is sent once, and says to look before going on`, async () => {
    // All at once, each at a host of its own: those that hang are waited for together. Making the hosts is not.
    const worlds = await Promise.all(writes.map(async (one) => ({ ...one, ...(await start({ match: WRITE, act })) })));
    const outcomes = worlds.map(async ({ name: write, send, host, faults }) => {
      const error = await failure(send(host));
      assert.equal(error.code, "outcome-unknown", `${write}: ${error.message}`);
      assert.match(error.advice ?? "", /looks at the host first/);
      assert.equal(calls(faults, WRITE).length, 1, `${write}: ${faults.seen}`);
    });
    await Promise.all(outcomes);
  });

test("what a lost answer had started is found by looking", async () => {
  const { host, faults } = await start({ match: /^PUT .*\/resize$/, act: { kind: "reset", when: "after" } });
  await assert.rejects(host.resize("pve1", 101, 3), { code: "outcome-unknown" });
  const [upid] = await host.tasks("pve1", 101);
  assert.ok(upid !== undefined);
  await host.waitTask(upid);
  assert.match((await host.config("pve1", 101))?.options.rootfs ?? "", /size=3G/);
  assert.equal(calls(faults, WRITE).length, 1);
});

test("a read is asked again when its connection is reset or a proxy fails, twice, and then no more", async () => {
  for (const act of [
    { kind: "reset", when: "before" },
    { kind: "answer", status: 596, reason: "Connection timed out", when: "before" },
  ] as const) {
    const twice = await start({ match: /GET/, nth: 1, act }, { match: /GET/, nth: 2, act });
    assert.equal((await twice.host.config("pve1", 101))?.hostname, "exit1");
    assert.equal(twice.faults.seen.length, 3);
    const always = await start({ match: /GET/, act });
    const { code } = await failure(always.host.config("pve1", 101));
    assert.ok(code === "connection-lost" || code === "pve-node-unreachable", code);
    assert.equal(always.faults.seen.length, 3);
  }
});

test("a host that refuses the login midway is told so with the way to a new token, and not asked again", async () => {
  const refused = { kind: "answer", status: 401, reason: "Authentication failed!", when: "before" } as const;
  const { host, faults } = await start({ match: WRITE, act: refused });
  const error = await failure(host.snapshot("pve1", 101, "pre_upgrade"));
  assert.equal(error.code, "login-refused");
  assert.match(error.advice ?? "", /pveum user token add/);
  assert.equal(faults.seen.length, 1);
});

test("an error nobody foresaw keeps Proxmox's words, and a write is not repeated for it", async () => {
  const died = { kind: "answer", status: 500, reason: "unable to open database file", when: "before" } as const;
  const { host, faults } = await start({ match: WRITE, act: died });
  const error = await failure(host.backup("pve1", 101, "local", { mode: "suspend" }));
  assert.equal(error.code, "pve-error");
  assert.match(error.message, /unable to open database file/);
  assert.equal(faults.seen.length, 1);
});

test("a number that somebody else takes first is refused as taken, and left as it is", async () => {
  const { host, pve, faults } = await start({
    match: /^POST \/nodes\/pve1\/lxc$/,
    act: { kind: "meanwhile", run: ({ guests }) => guests.write(102, emptyConfig({ hostname: "theirs" })) },
  });
  const vmid = await host.nextVmid();
  assert.equal(vmid, 100);
  const params = { vmid: 102, ostemplate: "local:vztmpl/x.tar.zst", unprivileged: true, rootfs: "local:2" };
  const error = await failure(host.create("pve1", params));
  assert.equal(error.code, "vmid-taken");
  assert.match(error.advice ?? "", /next free id/);
  assert.equal(pve.guests.read(102).config.options.hostname, "theirs");
  assert.equal(calls(faults, WRITE).length, 1);
});

test("a container that something else locks first is refused with what holds it and how it is freed", async () => {
  const { host } = await start({
    match: /^PUT .*\/config$/,
    act: { kind: "meanwhile", run: ({ guests }) => guests.lock(101, "backup") },
  });
  const error = await failure(host.setConfig("pve1", 101, { memory: 640 }));
  assert.equal(error.code, "container-locked");
  assert.match(error.advice ?? "", /backup.*pct unlock 101/);
  assert.equal((await host.resources()).guests.find(({ vmid }) => vmid === 101)?.lock, "backup");
  const upid = await host.snapshot("pve1", 101, "pre_upgrade");
  await assert.rejects(host.waitTask(upid), { code: "container-locked" });
});

test("a task whose polls get lost in between is waited for to its end", async () => {
  const reset = { kind: "reset", when: "after" } as const;
  const { host } = await start(
    { match: /\/status$/, nth: 1, act: reset },
    { match: /\/log$/, nth: 1, act: { kind: "answer", status: 595, reason: "Connection refused", when: "before" } },
  );
  assert.deepEqual((await host.waitTask(await host.resize("pve1", 101, 4))).warnings, 0);
});
