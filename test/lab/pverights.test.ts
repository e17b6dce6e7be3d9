import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { prepareAccess } from "../../src/lab/pve/access.js";
import { type Grant, newSecret } from "../../src/lab/pve/accounts.js";
import { readCertificate } from "../../src/lab/pve/certificate.js";
import { emptyConfig } from "../../src/lab/pve/guestconfig.js";
import { openPve, type Pve } from "../../src/lab/pve/pve.js";
import { closePve, listenPve } from "../../src/lab/pve/server.js";
import { ModelRuntime } from "./pvemodel.js";
import { pveRequest, tokenHeaders } from "./pverequest.js";

/**
 * Which privileges each call asks for, found as they were found on a genuine Proxmox VE 9.2: a token that holds
 * nothing is granted what the refusal names, one after the other, until it is let through.
 */
const TOKEN = "poor@pve!one";
const SNAPSHOT = "/nodes/pve1/lxc/201/snapshot";
const ARCHIVE = "vzdump-lxc-201-2026_11_22-13_11_09.tar.zst";
const BACKUP = `local:backup/${ARCHIVE}`;
const CONTENT = `/nodes/pve1/storage/local/content/${encodeURIComponent(BACKUP)}`;

const folder = mkdtempSync(join(tmpdir(), "exn-lp-"));
let pve: Pve;
let server: Awaited<ReturnType<typeof listenPve>>;
let call: ReturnType<typeof pveRequest>;

before(async () => {
  const stateDir = join(folder, "state");
  await prepareAccess(stateDir);
  const certificate = await readCertificate(stateDir, "pve1");
  const { fingerprint } = certificate;
  const storageDir = join(folder, "storage");
  const runtime = new ModelRuntime();
  pve = openPve({ nodeName: "pve1", stateDir, storageDir, runtime, fingerprint, address: "127.0.0.1" });
  const { secret, hash } = newSecret();
  const token = { secretHash: hash, privsep: 1, expire: 0 };
  pve.accounts.users["poor@pve"] = { enable: 1, expire: 0, tokens: { one: token } };
  pve.accounts.acl.push({ path: "/", type: "user", ugid: "poor@pve", roleid: "Administrator", propagate: 1 });
  const net0 = "name=eth0,bridge=vmbr0,ip=dhcp";
  const rootfs = "local-zfs:subvol-201-disk-0,size=2G";
  pve.guests.write(201, emptyConfig({ hostname: "exit1", net0, rootfs }));
  writeFileSync(join(storageDir, "local/dump", ARCHIVE), "");
  server = await listenPve(pve, { certificate, address: "127.0.0.1", port: 0, delayMs: 0 });
  call = pveRequest(server, tokenHeaders(TOKEN, secret));
});
after(async () => {
  await closePve(pve, server);
  rmSync(folder, { recursive: true, force: true });
});

type Case = { verb: string; path: string; params?: Record<string, unknown>; needs: string[] };
const cases: readonly Case[] = [
  { verb: "POST", path: SNAPSHOT, params: { snapname: "ab" }, needs: ["/vms/201, VM.Snapshot"] },
  { verb: "GET", path: SNAPSHOT, needs: ["/vms/201, VM.Audit"] },
  {
    verb: "GET",
    path: `${SNAPSHOT}/ab/config`,
    needs: ["/vms/201, VM.Snapshot|VM.Snapshot.Rollback|VM.Audit"],
  },
  { verb: "PUT", path: `${SNAPSHOT}/ab/config`, needs: ["/vms/201, VM.Snapshot"] },
  { verb: "POST", path: `${SNAPSHOT}/ab/rollback`, needs: ["/vms/201, VM.Snapshot|VM.Snapshot.Rollback"] },
  { verb: "DELETE", path: `${SNAPSHOT}/ab`, needs: ["/vms/201, VM.Snapshot"] },
  { verb: "GET", path: "/nodes/pve1/lxc/201/feature?feature=snapshot", needs: ["/vms/201, VM.Audit"] },
  {
    verb: "PUT",
    path: "/nodes/pve1/lxc/201/resize",
    params: { disk: "rootfs", size: "+1G" },
    needs: ["/vms/201, VM.Config.Disk", "/vms/201, VM.Config.Options", "/storage/local-zfs, Datastore.AllocateSpace"],
  },
  {
    verb: "POST",
    path: "/nodes/pve1/vzdump",
    params: { vmid: 201, storage: "local", mode: "stop" },
    needs: ["/storage/local, Datastore.AllocateSpace"],
  },
  {
    verb: "GET",
    path: "/nodes/pve1/vzdump/defaults?storage=local",
    needs: ["/storage/local, Datastore.Audit|Datastore.AllocateSpace"],
  },
  {
    verb: "POST",
    path: "/nodes/pve1/lxc/201/clone",
    params: { newid: 204, full: 1, storage: "local" },
    // The refusal for the new number names nothing.
    needs: [
      "/vms/201, VM.Clone",
      "",
      "/storage/local, Datastore.AllocateSpace",
      "/sdn/zones/localnetwork/vmbr0, SDN.Use",
    ],
  },
  { verb: "POST", path: "/nodes/pve1/lxc/201/template", needs: ["/vms/201, VM.Allocate"] },
  {
    verb: "PUT",
    path: CONTENT,
    params: { notes: "x" },
    needs: ["/storage/local, Datastore.AllocateSpace", "/vms/201, VM.Backup"],
  },
  { verb: "DELETE", path: CONTENT, needs: ["/storage/local, Datastore.AllocateSpace", "/vms/201, VM.Backup"] },
  {
    verb: "GET",
    path: `/nodes/pve1/vzdump/extractconfig?volume=${encodeURIComponent(BACKUP)}`,
    needs: ["/storage/local, Datastore.AllocateSpace", "/vms/201, VM.Backup"],
  },
];

for (const { verb, path, params, needs } of cases)
  test(`${verb} ${decodeURIComponent(path)} asks for ${needs.map((need) => need || "VM.Allocate").join(", ")}`, async () => {
    pve.accounts.dropGrantsTo(({ type }) => type === "token");
    const asked: string[] = [];
    for (let tries = 0; tries <= needs.length; tries++) {
      const answer = await call(verb, path, params);
      if (answer.status !== 403) break;
      const need = /^Permission check failed(?: \((.*)\))?$/.exec(answer.reason)?.[1] ?? "";
      asked.push(need);
      grant(need === "" ? "/vms/204, VM.Allocate" : need);
    }
    assert.deepEqual(asked, needs);
  });

function grant(need: string): void {
  const [path = "", any = ""] = need.split(", ");
  const role = `Only${any.replaceAll(/[.|]/g, "")}`;
  pve.accounts.roles[role] = [any.split("|")[0] ?? ""];
  const made: Grant = { path, type: "token", ugid: TOKEN, roleid: role, propagate: 1 };
  pve.accounts.acl.push(made);
}
