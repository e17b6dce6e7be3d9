import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, test } from "node:test";
import { prepareAccess } from "../../src/lab/pve/access.js";
import { readCertificate } from "../../src/lab/pve/certificate.js";
import { joinCluster } from "../../src/lab/pve/cluster.js";
import { emptyConfig } from "../../src/lab/pve/guestconfig.js";
import { openPve, type Pve } from "../../src/lab/pve/pve.js";
import { closePve, listenPve } from "../../src/lab/pve/server.js";
import { connectPve } from "../../src/pve/client.js";
import { systemClock } from "../../src/sys/clock.js";
import { openHttps } from "../../src/sys/https.js";
import { ModelRuntime } from "./pvemodel.js";
import { type Answer, pveRequest } from "./pverequest.js";

/** Several PVE nodes behind one API, several hosts beside each other, and an older release. */
const open: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const close of open.splice(0).reverse()) await close();
});

function makeFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "exn-lp-"));
  open.push(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

type Options = { release?: "8.4"; shares?: Pve };

async function member(folder: string, nodeName: string, options: Options = {}): Promise<Pve> {
  const stateDir = join(folder, nodeName);
  const { fingerprint } = await readCertificate(stateDir, nodeName);
  const storageDir = join(folder, `${nodeName}-storage`);
  const runtime = new ModelRuntime();
  return openPve({ nodeName, stateDir, storageDir, runtime, fingerprint, address: "127.0.0.1", ...options });
}

async function serve(pve: Pve, rootPassword: string) {
  const certificate = await readCertificate(pve.stateDir, pve.nodeName);
  const server = await listenPve(pve, { certificate, address: "127.0.0.1", port: 0, delayMs: 0 });
  open.push(() => closePve(pve, server));
  const https = openHttps();
  open.push(() => https.close());
  const url = `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const login = { login: "root@pam", secret: rootPassword };
  const host = connectPve({ https, clock: systemClock }, { url, fingerprint: pve.fingerprint, ...login });
  const { data } = (
    await pveRequest(server, {})("POST", "/access/ticket", { username: "root@pam", password: rootPassword })
  ).body as { data: Record<string, string> };
  const call = pveRequest(server, {
    Cookie: `PVEAuthCookie=${encodeURIComponent(data.ticket ?? "")}`,
    CSRFPreventionToken: data.CSRFPreventionToken ?? "",
  });
  return { host, call };
}

test("either node of a cluster answers for both, and a number is taken on both at once", async () => {
  const folder = makeFolder();
  const { rootPassword } = await prepareAccess(join(folder, "pve1"));
  const first = await member(folder, "pve1");
  const second = await member(folder, "pve2", { shares: first });
  joinCluster("home", [first, second]);
  first.guests.write(100, emptyConfig({ hostname: "one", rootfs: "local-zfs:subvol-100-disk-0,size=2G" }));
  second.guests.write(101, emptyConfig({ hostname: "two", rootfs: "local-zfs:subvol-101-disk-0,size=2G" }));
  for (const pve of [first, second]) {
    const { host, call } = await serve(pve, rootPassword);
    assert.deepEqual(
      (await host.nodes()).map(({ name, fingerprint }) => [name, fingerprint]),
      [
        ["pve1", first.fingerprint],
        ["pve2", second.fingerprint],
      ],
    );
    const { guests, nodes, storages } = await host.resources();
    assert.deepEqual(
      guests.map(({ vmid, node, name }) => [vmid, node, name]),
      [
        [100, "pve1", "one"],
        [101, "pve2", "two"],
      ],
    );
    assert.equal(nodes.length, 2);
    assert.deepEqual(
      storages.map(({ node, id }) => `${node}/${id}`),
      ["pve1/local", "pve1/local-zfs", "pve2/local", "pve2/local-zfs"],
    );
    assert.equal(await host.nextVmid(), 102);
    assert.equal((await host.config("pve2", 101))?.hostname, "two");
    assert.equal(await host.config("pve1", 101), undefined, "it is on the other node");
    const params = { vmid: 101, ostemplate: "local:vztmpl/x.tar.zst", unprivileged: true, rootfs: "local:2" };
    await assert.rejects(host.create("pve1", params), { code: "vmid-taken" });
    await assert.rejects(host.nodeStatus("pve3"), { code: "pve-node-unknown" });
    const status = (await call("GET", "/cluster/status")).body.data as Record<string, unknown>[];
    assert.deepEqual(
      status.map(({ type, name, quorate, local }) => [type, name, quorate ?? local]),
      [
        ["cluster", "home", 1],
        ["node", "pve1", pve === first ? 1 : 0],
        ["node", "pve2", pve === second ? 1 : 0],
      ],
    );
  }
});

test("a task of one node is found and waited for through the other", async () => {
  const folder = makeFolder();
  const { rootPassword } = await prepareAccess(join(folder, "pve1"));
  const first = await member(folder, "pve1");
  const second = await member(folder, "pve2", { shares: first });
  joinCluster("home", [first, second]);
  second.guests.write(101, emptyConfig({ rootfs: "local-zfs:subvol-101-disk-0,size=2G" }));
  const { host } = await serve(first, rootPassword);
  const upid = await host.resize("pve2", 101, 3);
  assert.match(upid, /^UPID:pve2:/);
  await host.waitTask(upid);
  assert.match((await host.config("pve2", 101))?.options.rootfs ?? "", /size=3G/);
});

test("two hosts side by side have their own numbers, storages, accounts and certificates", async () => {
  const folder = makeFolder();
  const hosts = await Promise.all(
    ["pve1", "pve2"].map(async (name) => {
      const { rootPassword } = await prepareAccess(join(folder, name), name);
      const pve = await member(folder, name);
      pve.guests.write(100, emptyConfig({ hostname: name }));
      return { pve, rootPassword, ...(await serve(pve, rootPassword)) };
    }),
  );
  for (const { pve, host } of hosts) {
    assert.deepEqual(
      (await host.guests()).map(({ name, vmid }) => [name, vmid]),
      [[pve.nodeName, 100]],
    );
    assert.equal(await host.nextVmid(), 101);
  }
  const [one, two] = hosts;
  assert.notEqual(one?.pve.fingerprint, two?.pve.fingerprint);
  assert.notEqual(one?.rootPassword, two?.rootPassword);
});

test("8.4 knows neither what came later nor unprivileged by default, and still what went since", async () => {
  const folder = makeFolder();
  const { rootPassword } = await prepareAccess(join(folder, "pve1"));
  const old = await member(folder, "pve1", { release: "8.4" });
  const { host, call } = await serve(old, rootPassword);
  assert.equal((await host.version()).release, "8.4");
  assert.match((await host.nodeStatus("pve1")).pveVersion, /^pve-manager\/8\.4/);
  assert.match((await host.packages("pve1")).get("pve-manager") ?? "", /^8\.4/);
  const lxc = { vmid: 101, ostemplate: "local:vztmpl/x.tar.zst", rootfs: "local:2", unprivileged: 1 };
  const errorsOf = ({ body }: Answer): string[] => Object.keys((body.errors ?? {}) as object).sort();
  assert.deepEqual(errorsOf(await call("POST", "/nodes/pve1/lxc", { ...lxc, entrypoint: "/bin/x", "ha-managed": 1 })), [
    "entrypoint",
    "ha-managed",
  ]);
  assert.deepEqual(
    errorsOf(await call("POST", "/nodes/pve1/lxc", { ...lxc, net0: "name=eth0,bridge=vmbr0,host-managed=1" })),
    ["net0"],
  );
  const { unprivileged: _, ...silent } = lxc;
  assert.deepEqual(errorsOf(await call("POST", "/nodes/pve1/lxc", silent)), ["unprivileged"]);
  assert.equal((await call("POST", "/access/roles", { roleid: "Old", privs: "VM.Monitor VM.Audit" })).status, 200);
  assert.deepEqual(errorsOf(await call("POST", "/access/roles", { roleid: "New", privs: "VM.GuestAgent.Audit" })), [
    "privs",
  ]);
  const job = { vmid: 999, storage: "local", maxfiles: 3 };
  assert.equal((await call("POST", "/nodes/pve1/vzdump", job)).status, 200);
  const { call: today } = await serve(await member(makeFolder(), "pve1", { shares: old }), rootPassword);
  assert.deepEqual(errorsOf(await today("POST", "/nodes/pve1/vzdump", job)), ["maxfiles"]);
  assert.deepEqual(errorsOf(await today("POST", "/access/roles", { roleid: "Old2", privs: "VM.Monitor" })), ["privs"]);
});
