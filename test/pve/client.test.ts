import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, test } from "node:test";
import { Failure } from "../../src/kit/failure.js";
import { connectPve } from "../../src/pve/client.js";
import type { PveHost } from "../../src/pve/guests.js";
import { LOOKS_MAX } from "../../src/pve/upload.js";
import { openHttps } from "../../src/sys/https.js";
import { type Act, type FakeHost, type Seen, startFakeHost } from "./fakehost.js";
import { TestClock } from "./testclock.js";

const folder = mkdtempSync(join(tmpdir(), "exn-cli-"));
after(() => rmSync(folder, { recursive: true, force: true }));
const open: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const close of open.splice(0)) await close();
});

async function start(answer: (request: Seen) => Act): Promise<{ host: FakeHost; pve: PveHost; clock: TestClock }> {
  const host = await startFakeHost(answer);
  const clock = new TestClock();
  const login = { url: host.url, fingerprint: host.fingerprint, login: "rm@pve!client", secret: "s" };
  const pve = connectPve({ https: openHttps(), clock }, login);
  open.push(() => pve.close(), host.close);
  return { host, pve, clock };
}

const UPID = "UPID:pve1:00001838:0004BF35:6B02E9DC:imgcopy::rm@pve!client:";
const content = Buffer.alloc(300_000, "template ");
const FILE = {
  path: join(folder, "made.tar.zst"),
  name: "exitnode_1.0_amd64.tar.zst",
  sizeBytes: content.length,
  sha512: createHash("sha512").update(content).digest("hex"),
};
writeFileSync(FILE.path, content);

/** A storage that keeps what is uploaded; `lose` = what its answer to the upload is instead. */
function storageHost(lose?: { act: Act; keeps: boolean }) {
  const volumes: { volid: string; size: number; ctime: number }[] = [];
  return (request: Seen): Act => {
    if (request.path.endsWith("/status")) return { data: { status: "stopped", exitstatus: "OK" } };
    if (request.path.endsWith("/log")) return { data: [{ n: 1, t: "TASK OK" }] };
    if (request.path.endsWith("/content")) return { data: volumes };
    if (lose === undefined || lose.keeps)
      volumes.push({ volid: `local:vztmpl/${FILE.name}`, size: content.length, ctime: 7 });
    return lose?.act ?? { data: UPID };
  };
}

test("an upload has its parts in the order Proxmox insists on, and an exact length", async () => {
  const { host, pve } = await start(storageHost());
  const sent: number[] = [];
  const volume = await pve.upload("pve1", "local", FILE, { onProgress: (bytes) => sent.push(bytes) });
  assert.deepEqual(volume, { volid: `local:vztmpl/${FILE.name}`, sizeBytes: content.length, createdAtSeconds: 7 });
  const post = host.seen.find(({ method }) => method === "POST");
  assert.equal(post?.headers["content-length"], String(post?.body.length));
  assert.equal(post?.headers["transfer-encoding"], undefined);
  const boundary = `exitnode-${FILE.sha512.slice(0, 40)}`;
  assert.equal(post?.headers["content-type"], `multipart/form-data; boundary=${boundary}`);
  const field = (name: string, value: string) =>
    `--${boundary}\r\nContent-Disposition: form-data; name="${name}"\r\n\r\n${value}\r\n`;
  const expected = Buffer.concat([
    Buffer.from(
      field("content", "vztmpl") +
        field("checksum-algorithm", "sha512") +
        field("checksum", FILE.sha512) +
        `--${boundary}\r\nContent-Disposition: form-data; name="filename"; filename="${FILE.name}"\r\nContent-Type: application/octet-stream\r\n\r\n`,
    ),
    content,
    Buffer.from(`\r\n--${boundary}--\r\n`),
  ]);
  assert.ok(post?.body.equals(expected), "byte for byte");
  assert.equal(sent.at(-1), content.length);
  assert.ok(
    sent.every((bytes, i) => i === 0 || bytes >= (sent[i - 1] ?? 0)),
    "progress only grows",
  );
});

test("an upload whose answer a proxy lost counts as done when the storage lists the file", async () => {
  const { pve } = await start(storageHost({ act: { status: 596, reason: "timeout" }, keeps: true }));
  assert.equal((await pve.upload("pve1", "local", FILE)).sizeBytes, content.length);
});

test("an upload whose answer got lost fails when the file does not appear, after a bounded number of looks", async () => {
  const { host, pve } = await start(storageHost({ act: "reset", keeps: false }));
  await assert.rejects(pve.upload("pve1", "local", FILE), { code: "outcome-unknown" });
  assert.equal(host.seen.filter(({ method }) => method === "POST").length, 1);
  assert.equal(host.seen.filter(({ path }) => path.endsWith("/content")).length, 1 + LOOKS_MAX);
});

test("a file that became shorter is not sent to its end", async () => {
  const { pve } = await start(storageHost());
  const upload = pve.upload("pve1", "local", { ...FILE, sizeBytes: FILE.sizeBytes + 5 });
  await assert.rejects(upload, { code: "file-changed" });
  await assert.rejects(pve.upload("pve1", "local", { ...FILE, path: join(folder, "gone") }), {
    code: "file-unreadable",
  });
});

test("a template with a name Proxmox would refuse is not sent", async () => {
  const { host, pve } = await start(storageHost());
  await assert.rejects(pve.upload("pve1", "local", { ...FILE, name: "x.zip" }), { code: "template-name-invalid" });
  await assert.rejects(pve.upload("pve1", "local", { ...FILE, name: 'a"\r\n.tar.zst' }), {
    code: "template-name-invalid",
  });
  assert.equal(host.seen.length, 0);
});

/** Answers as recorded: null for an empty list, numbers as strings. */
const ANSWERS: Record<string, unknown> = {
  "/version": { repoid: "14a22df35955d97d", version: "9.2.11", release: "9.2" },
  "/cluster/nextid": "100",
  "/nodes/pve1/lxc/102/interfaces": null,
  "/nodes/pve1/lxc/101/interfaces": [
    {
      name: "eth0",
      "hardware-address": "bc:24:11:97:9d:6a",
      hwaddr: "bc:24:11:97:9d:6a",
      inet: "10.99.0.11/24",
      "ip-addresses": [
        { "ip-address": "10.99.0.11", prefix: "24", "ip-address-type": "inet" },
        { "ip-address-type": "inet6", prefix: "64", "ip-address": "fe80::be24:11ff:fe97:9d6a" },
      ],
    },
  ],
  "/nodes/pve1/lxc/101/config": {
    hostname: "exit1",
    rootfs: "local:101/vm-101-disk-0.raw,size=2G",
    description: "managed by lab\n",
    swap: 0,
    cores: 1,
    unprivileged: 1,
    memory: "640",
    tags: "exit;rm;upper",
    digest: "13ee",
  },
  "/nodes/pve1/lxc/103/config": { lock: "create", digest: "a7e9" },
  "/cluster/resources": [
    {
      id: "lxc/101",
      vmid: 101,
      tags: "exit;rm",
      type: "lxc",
      node: "pve1",
      status: "running",
      name: "exit1",
      template: 0,
    },
    { node: "pve1", type: "lxc", status: "unknown", vmid: 601, id: "lxc/601" },
    { node: "pve1", type: "storage", id: "storage/pve1/local" },
  ],
  "/nodes/pve1/network": [
    { iface: "eth0", type: "eth", active: 1 },
    { iface: "vmbr0", type: "bridge", active: 1, cidr: "10.99.0.1/24", bridge_ports: "" },
  ],
  "/nodes/pve1/storage": [{ storage: "local", type: "dir", content: "rootdir,vztmpl", active: 1, avail: 5, total: 9 }],
};

const recordedHost = ({ path }: Seen): Act => {
  const short = path.replace("/api2/json", "");
  if (short in ANSWERS) return { data: ANSWERS[short] };
  const vmid = /\/lxc\/(\d+)/.exec(short)?.[1];
  return { status: 500, reason: `Configuration file 'nodes/pve1/lxc/${vmid}.conf' does not exist`, body: "" };
};

test("recorded answers come out in our words", async () => {
  const { pve } = await start(recordedHost);
  assert.deepEqual(await pve.version(), { version: "9.2.11", release: "9.2" });
  assert.equal(await pve.nextVmid(), 100);
  assert.deepEqual(await pve.interfaces("pve1", 102), []);
  assert.deepEqual(await pve.interfaces("pve1", 101), [
    { name: "eth0", mac: "BC:24:11:97:9D:6A", addresses: ["10.99.0.11", "fe80::be24:11ff:fe97:9d6a"] },
  ]);
  assert.deepEqual(await pve.bridges("pve1"), [
    { name: "vmbr0", active: true, cidr: "10.99.0.1/24", gateway: undefined, vlanAware: false },
  ]);
  assert.deepEqual(await pve.storages("pve1"), [
    {
      id: "local",
      type: "dir",
      content: ["rootdir", "vztmpl"],
      active: true,
      shared: false,
      availBytes: 5,
      totalBytes: 9,
    },
  ]);
});

test("guests are containers and machines, also those that may only be seen by their number", async () => {
  const { pve } = await start(recordedHost);
  const guests = await pve.guests();
  assert.deepEqual(
    guests.map(({ vmid, name, status, tags }) => ({ vmid, name, status, tags })),
    [
      { vmid: 101, name: "exit1", status: "running", tags: ["exit", "rm"] },
      { vmid: 601, name: "", status: "unknown", tags: [] },
    ],
  );
});

test("a container's config comes typed, and keeps every option as Proxmox wrote it", async () => {
  const { pve } = await start(recordedHost);
  const config = await pve.config("pve1", 101);
  assert.ok(config !== undefined);
  const { options, ...typed } = config;
  assert.equal(options.rootfs, "local:101/vm-101-disk-0.raw,size=2G");
  assert.deepEqual(typed, {
    hostname: "exit1",
    description: "managed by lab",
    tags: ["exit", "rm", "upper"],
    cores: 1,
    memoryMib: 640,
    swapMib: 0,
    unprivileged: true,
    onboot: false,
    protection: false,
    lock: undefined,
    digest: "13ee",
  });
  assert.equal((await pve.config("pve1", 103))?.lock, "create");
});

test("a container that is not there is undefined, not an error", async () => {
  const { pve } = await start(recordedHost);
  assert.equal(await pve.config("pve1", 404), undefined);
  assert.equal(await pve.status("pve1", 404), undefined);
});

test("an answer of another shape names the field and is not let in", async () => {
  const { pve } = await start(() => ({ data: { version: 9 } }));
  await assert.rejects(pve.version(), (error: unknown) => {
    assert.ok(error instanceof Failure && error.code === "pve-reply-unexpected");
    assert.match(error.message, /about its version is not understood: version: /);
    return true;
  });
});

test("rootfs is never put into the config of a container that exists", async () => {
  const { host, pve } = await start(recordedHost);
  await assert.rejects(pve.setConfig("pve1", 101, { rootfs: "local:4" }), { code: "option-read-only" });
  assert.equal(host.seen.length, 0);
});
