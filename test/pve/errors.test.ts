import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import * as z from "zod";
import { replyFailure, taskFailure } from "../../src/pve/errors.js";

/** Every error recorded from Proxmox VE 9.2, with the code it becomes. */
const recorded = z
  .object({
    replies: z.array(
      z.object({
        label: z.string(),
        as: z.string(),
        method: z.string(),
        path: z.string(),
        status: z.number(),
        reason: z.string(),
        body: z.string(),
        pool: z.string().optional(),
        code: z.string(),
      }),
    ),
    tasks: z.array(z.object({ label: z.string(), type: z.string(), exitStatus: z.string(), code: z.string() })),
  })
  .parse(JSON.parse(readFileSync("test/data/pve-errors.json", "utf8")));

const TOKEN = "rm@pve!client";

for (const { label, code, pool, ...reply } of recorded.replies) {
  test(`recorded reply "${label}" (${reply.status}) is ${code}`, () => {
    const asked = { method: reply.method, path: reply.path, params: pool === undefined ? {} : { pool }, login: TOKEN };
    const failure = replyFailure(asked, reply);
    assert.equal(failure.code, code);
    assert.notEqual(failure.code, "pve-error", "every recorded error has a row");
    assert.doesNotMatch(failure.message, /\n/, "a message is one line");
  });
}

for (const { label, code, type, exitStatus } of recorded.tasks) {
  test(`recorded task "${label}" is ${code}`, () => {
    assert.equal(taskFailure(type, exitStatus, []).code, code);
  });
}

const ask = { method: "POST", path: "/nodes/pve1/lxc", params: {}, login: TOKEN };

test("a refused request names every bad parameter with what was expected", () => {
  const errors = {
    memory: "value must have a minimum value of 16",
    vmid: "property is missing and it is not optional",
  };
  const body = JSON.stringify({ data: null, message: "Parameter verification failed.\n", errors });
  const failure = replyFailure(ask, { status: 400, reason: "Parameter verification failed.", body });
  assert.equal(
    failure.message,
    "POST /nodes/pve1/lxc was refused: memory: value must have a minimum value of 16; vmid: property is missing and it is not optional",
  );
});

test("a missing privilege is answered with the lines that grant it to user and token", () => {
  const reason = "Permission check failed (/sdn/zones/localnetwork/vmbr0, SDN.Use)";
  assert.equal(
    replyFailure(ask, { status: 403, reason, body: "" }).advice,
    `on the Proxmox host, as root:
pveum role add ExitnodeNetwork --privs "SDN.Use" || pveum role modify ExitnodeNetwork --privs "SDN.Use" --append 1
pveum acl modify /sdn/zones/localnetwork/vmbr0 --roles ExitnodeNetwork --users rm@pve --tokens 'rm@pve!client'`,
  );
});

test("a create without VM.Allocate, which Proxmox does not name, asks for it on the pool that was given", () => {
  const failure = replyFailure(
    { ...ask, params: { pool: "lab" } },
    { status: 403, reason: "Permission check failed", body: "" },
  );
  assert.equal(failure.message, "rm@pve!client lacks VM.Allocate on /pool/lab (POST /nodes/pve1/lxc)");
});

test("a privilege on one container is granted on /vms, because a rule at /vms/N goes with the container", () => {
  const failure = replyFailure(ask, { status: 403, reason: "Permission check failed (/vms/101, VM.Audit)", body: "" });
  assert.match(failure.advice ?? "", /acl modify \/vms --roles ExitnodeGuests/);
});

test("an error keeps its words when a proxy in front drops the reason phrase", () => {
  const body = JSON.stringify({ data: null, message: "CT 101 already exists on node 'pve1'\n" });
  assert.equal(replyFailure(ask, { status: 500, reason: "", body }).code, "vmid-taken");
});

test("an error nobody recorded keeps Proxmox's words and is not called internal", () => {
  const failure = replyFailure(ask, { status: 500, reason: "the moon is full", body: "" });
  assert.deepEqual([failure.code, failure.message], ["pve-error", "POST /nodes/pve1/lxc failed: 500 the moon is full"]);
});

test("a failed task quotes the end of its log", () => {
  const log = Array.from({ length: 20 }, (_, i) => `line ${i}`);
  assert.match(
    taskFailure("vzcreate", "it broke", log).message,
    /^task vzcreate failed: it broke\n {4}line 12\n(.|\n)*line 19$/,
  );
});

const tails: readonly { name: string; exit: string; log: readonly string[]; code: string }[] = [
  {
    name: "a backup job that failed for want of space",
    exit: "job errors",
    log: ["INFO: tar: -: Wrote only 4096 of 10240 bytes", "ERROR: Backup of VM 101 failed - No space left on device"],
    code: "storage-full",
  },
  {
    name: "a backup job that met a locked container",
    exit: "job errors",
    log: ["ERROR: Backup of VM 101 failed - CT is locked (snapshot)", "INFO: Backup job finished with errors"],
    code: "container-locked",
  },
  {
    name: "a backup job in a mode the storage cannot",
    exit: "job errors",
    log: ["ERROR: Backup of VM 401 failed - cannot mount subvol snapshots for storage type 'btrfs'"],
    code: "backup-mode-refused",
  },
  {
    name: "an archive that did not fit, its last block half written",
    exit: "unable to create CT 101 - command 'tar xpf x.tar.zst' failed: exit code 2",
    log: ["tar: ./ballast: Wrote only 2560 of 10240 bytes", "tar: Exiting with failure status due to previous errors"],
    code: "storage-full",
  },
  {
    name: "a rollback past a newer snapshot on ZFS",
    exit: "can't rollback, 'a1' is not most recent snapshot on 'tank:subvol-101-disk-0'",
    log: [],
    code: "snapshot-not-newest",
  },
];
for (const { name, exit, log, code } of tails)
  test(`${name} is ${code}, whatever its exit status says`, () => {
    const failure = taskFailure("vzdump", exit, log);
    assert.equal(failure.code, code, failure.message);
    assert.notEqual(failure.advice, undefined);
  });
