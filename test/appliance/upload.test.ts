import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { after, test } from "node:test";
import type { ApplianceManifest } from "../../src/appliance/manifest.js";
import { applianceCommands } from "../../src/cli/appliance.js";
import { signAppliance } from "../../src/cli/appliancekey.js";
import { writeConfig, writeCredentials } from "../../src/cli/config.js";
import { MASKED_UNITS } from "../../src/netconf/containerfiles.js";
import { localFiles } from "../../src/sys/files.js";
import { makeHome } from "../cli/hostworld.js";
import { type Act, type Seen, startFakeHost } from "../pve/fakehost.js";

const NAME = "debian-13-exitnode_0.0.1_amd64.tar.zst";
const UPID = "UPID:pve1:00001838:0004BF35:6B02E9DC:imgcopy::rm@pve!client:";
const home = makeHome();
const file = makeTemplate(join(home.folder, "made"));
await signAppliance(home.call([]).parts, file);
after(() => home.remove());

const upload = applianceCommands.find((command) => command.usage.startsWith("appliance upload"));
assert.ok(upload !== undefined);

/** A PVE node with two storages, of which one takes templates. */
function templateHost() {
  const volumes: { volid: string; size: number; ctime: number; content: string }[] = [];
  return (request: Seen): Act => {
    if (request.method === "POST") {
      volumes.push({ volid: `local:vztmpl/${NAME}`, size: statSync(file).size, ctime: 7, content: "vztmpl" });
      return { data: UPID };
    }
    if (request.path.endsWith("/nodes")) return { data: [{ node: "pve1", status: "online" }] };
    if (request.path.endsWith("/status")) return { data: { status: "stopped", exitstatus: "OK" } };
    if (request.path.endsWith("/log")) return { data: [{ n: 1, t: "TASK OK" }] };
    if (request.path.endsWith("/content")) return { data: volumes };
    const space = { active: 1, avail: 20e9, total: 90e9 };
    return {
      data: [
        { storage: "tank", type: "zfspool", content: "rootdir,images", ...space },
        { storage: "local", type: "dir", content: "vztmpl,backup", ...space },
      ],
    };
  };
}

test("a template goes to the storage that takes templates, once", async () => {
  const host = await startFakeHost(templateHost());
  try {
    await keep(host.url, host.fingerprint);
    const first = await upload.run(home.call([file], { host: "pve1" }));
    const volid = `local:vztmpl/${NAME}`;
    assert.deepEqual(first.value, { host: "pve1", node: "pve1", storage: "local", volid, uploaded: true });
    const second = await upload.run(home.call([file]));
    assert.deepEqual(second.value, { host: "pve1", node: "pve1", storage: "local", volid, uploaded: false });
    assert.equal(host.seen.filter(({ method }) => method === "POST").length, 1);
  } finally {
    await host.close();
  }
});

test("a storage that takes no templates is refused with the name of one that does", async () => {
  const host = await startFakeHost(templateHost());
  try {
    await keep(host.url, host.fingerprint);
    await assert.rejects(async () => upload.run(home.call([file], { storage: "tank" })), {
      code: "storage-unfit",
      message: /able: local/,
    });
    assert.ok(host.seen.every(({ method }) => method === "GET"));
  } finally {
    await host.close();
  }
});

test("an altered template does not leave the machine", async () => {
  const host = await startFakeHost(templateHost());
  const altered = join(home.folder, "altered", NAME);
  try {
    await keep(host.url, host.fingerprint);
    mkdirSync(dirname(altered));
    writeFileSync(altered, Buffer.concat([readFileSync(file), Buffer.from("x")]));
    for (const ending of [".json", ".json.sig"]) writeFileSync(`${altered}${ending}`, readFileSync(`${file}${ending}`));
    await assert.rejects(async () => upload.run(home.call([altered])), { code: "appliance-altered" });
    assert.ok(host.seen.every(({ method }) => method === "GET"));
  } finally {
    await host.close();
  }
});

test("a template that somebody else signed does not leave the machine, unless their key is named", async () => {
  const host = await startFakeHost(templateHost());
  const other = makeHome();
  const foreign = makeTemplate(join(home.folder, "foreign"));
  try {
    await keep(host.url, host.fingerprint);
    await assert.rejects(async () => upload.run(home.call([foreign])), { code: "signature-missing" });
    const publicKey = await signAppliance(other.call([]).parts, foreign);
    await assert.rejects(async () => upload.run(home.call([foreign])), { code: "signature-invalid" });
    assert.ok(host.seen.every(({ method }) => method === "GET"));
    await upload.run(home.call([foreign], { publicKey }));
    assert.equal(host.seen.filter(({ method }) => method === "POST").length, 1);
  } finally {
    other.remove();
    await host.close();
  }
});

async function keep(url: string, fingerprint: string): Promise<void> {
  await writeConfig(localFiles, home.folder, {
    hosts: { pve1: { url, fingerprint, login: "rm@pve!client", defaults: {} } },
  });
  await writeCredentials(localFiles, home.folder, { hosts: { pve1: { secret: "s" } } });
}

/** The smallest archive that passes for a template, with its manifest. */
function makeTemplate(folder: string): string {
  const root = join(folder, "root");
  for (const path of ["usr/bin/node", "usr/sbin/sshd", "usr/sbin/nft", "etc/nftables.conf", "etc/machine-id"]) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), "");
  }
  mkdirSync(join(root, "dev"));
  mkdirSync(join(root, "etc/systemd/system"), { recursive: true });
  for (const unit of MASKED_UNITS) symlinkSync("/dev/null", join(root, "etc/systemd/system", unit));
  const path = join(folder, NAME);
  execFileSync("tar", ["-C", root, "--sort=name", "--mtime=@0", "-I", "zstd", "-cf", path, "."]);
  const manifest: ApplianceManifest = {
    name: NAME,
    version: "0.0.1",
    suite: "trixie",
    architecture: "amd64",
    inputs: "",
    builtAt: "2026-01-01T00:00:00.000Z",
    sha512: createHash("sha512").update(readFileSync(path)).digest("hex"),
    bytes: statSync(path).size,
    unpackedBytes: 1,
    packages: [],
  };
  writeFileSync(`${path}.json`, JSON.stringify(manifest));
  return path;
}
