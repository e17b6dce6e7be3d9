import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import type { Built } from "../../src/appliance/image.js";
import { BUILDER_NAME, type BuilderParts, baseTemplate, inBuilder } from "../../src/cli/appliancebuilder.js";
import { BUILD_PACKAGES, fetchBuilt, prepareBuild, remoteParts } from "../../src/cli/applianceremote.js";
import { Failure } from "../../src/kit/failure.js";
import { type ExecOptions, localExec } from "../../src/sys/exec.js";
import { localFiles } from "../../src/sys/files.js";
import type { Ssh } from "../../src/sys/ssh.js";
import { ModelProxmox } from "../provision/modelhost.js";
import { ModelMachine, modelParts, REQUEST } from "../provision/modelparts.js";

/** `appliance build --on HOST`: the container that comes and goes, and what is carried in and out. */
const folder = mkdtempSync(join(tmpdir(), "exn-buildon-"));
after(() => rmSync(folder, { recursive: true, force: true }));
const TEMPLATE = "local:vztmpl/debian-13-standard_13.1-2_amd64.tar.zst";
const sha512 = (content: Uint8Array): string => createHash("sha512").update(content).digest("hex");

/** Another machine's shell, as far as reading and writing files goes: this machine's, in a folder of the test. */
function elsewhere(ran: { argv: readonly string[]; options: ExecOptions | undefined }[] = []): Ssh {
  return {
    run: (argv, options) => {
      ran.push({ argv, options });
      return localExec.run(argv, options);
    },
    push: async (files) => {
      for (const { path, content, mode } of files) await localFiles.write(path, content, { mode });
    },
    close() {},
  };
}

type World = { proxmox: ModelProxmox; parts: BuilderParts; said: string[]; stop: AbortController };

async function world(): Promise<World> {
  const proxmox = new ModelProxmox();
  proxmox.templates.set(TEMPLATE, 120_000_000);
  const stop = new AbortController();
  const said: string[] = [];
  const provision = await modelParts(proxmox, new ModelMachine());
  return { proxmox, said, stop, parts: { ...provision, signal: stop.signal, say: (line) => said.push(line) } };
}

test("a build gets a container of its own, which is gone afterwards", async () => {
  const { proxmox, parts } = await world();
  const seen = await inBuilder(parts, REQUEST, async () => {
    const [container] = proxmox.containers.values();
    assert.ok(container?.running);
    const { hostname, ostemplate, unprivileged, features, memory } = container.options;
    assert.deepEqual(
      { hostname, ostemplate, unprivileged, features, memory },
      { hostname: BUILDER_NAME, ostemplate: TEMPLATE, unprivileged: "1", features: "nesting=1", memory: "2048" },
    );
    return "built";
  });
  assert.equal(seen, "built");
  assert.equal(proxmox.containers.size, 0);
});

test("a build that fails, and one that is interrupted, leave nothing on the host", async () => {
  const { proxmox, parts, stop } = await world();
  const broken = () => Promise.reject(new Failure("appliance-build-failed", "no"));
  await assert.rejects(inBuilder(parts, REQUEST, broken), { code: "appliance-build-failed" });
  assert.equal(proxmox.containers.size, 0);
  const interrupted = async () => {
    stop.abort();
    throw new Failure("interrupted", "interrupted");
  };
  await assert.rejects(inBuilder(parts, REQUEST, interrupted), { code: "interrupted" });
  assert.equal(proxmox.containers.size, 0);
});

test("what a killed build left is taken away by the next one; somebody else's builder stops it", async () => {
  const { proxmox, parts } = await world();
  let leftover: Record<string, string> = {};
  await inBuilder(parts, REQUEST, async () => {
    leftover = { ...[...proxmox.containers.values()][0]?.options };
  });
  await parts.host.create("pve1", { ...leftover, vmid: 100, ostemplate: TEMPLATE });
  await inBuilder(parts, REQUEST, async () => assert.equal(proxmox.containers.size, 1));
  assert.equal(proxmox.containers.size, 0);

  await parts.host.create("pve1", { ...leftover, vmid: 100, ostemplate: TEMPLATE, description: "another's" });
  await assert.rejects(
    inBuilder(parts, REQUEST, async () => {}),
    { code: "build-under-way" },
  );
  assert.deepEqual([...proxmox.containers.keys()], [100]);
});

test("without Debian's template, without rights and without room, nothing is made and the next step is told", async () => {
  for (const { spoil, code, advice } of [
    { spoil: ({ templates }: ModelProxmox) => templates.clear(), code: "template-missing", advice: /pveam download/ },
    {
      spoil: (proxmox: ModelProxmox) => {
        proxmox.privileges = new Set(["Datastore.Audit"]);
      },
      code: "permissions-missing",
      advice: /pveum role add ExitnodeGuests/,
    },
    {
      spoil: (proxmox: ModelProxmox) => {
        proxmox.storages = proxmox.storages.filter(({ id }) => id !== "local-lvm");
      },
      code: "storage-full",
      advice: /sudo exitnode appliance build/,
    },
  ]) {
    const { proxmox, parts } = await world();
    spoil(proxmox);
    await assert.rejects(
      inBuilder(parts, REQUEST, async () => {}),
      (error: unknown) => error instanceof Failure && error.code === code && advice.test(error.advice ?? ""),
    );
    assert.equal(proxmox.containers.size, 0);
  }
});

test("the newest of Debian's own templates is built in, and one of ours where there is none", () => {
  const ours = "local:vztmpl/debian-13-exitnode_0.1.0_amd64.tar.xz";
  const older = "local:vztmpl/debian-13-standard_13.9-1_amd64.tar.zst";
  const newer = "local:vztmpl/debian-13-standard_13.10-1_amd64.tar.zst";
  const foreign = "local:vztmpl/alpine-3.22-default_20250617_amd64.tar.xz";
  assert.equal(baseTemplate([older, ours, newer, foreign]), newer);
  assert.equal(baseTemplate([foreign, ours]), ours);
  assert.equal(baseTemplate([foreign]), undefined);
});

test("the recipe is read here and everything else there, with a scratch folder that is no memory", async () => {
  const here = join(folder, "here");
  const there = join(folder, "there");
  mkdirSync(here, { recursive: true });
  writeFileSync(join(here, "recipe"), "ours");
  const ran: { argv: readonly string[]; options: ExecOptions | undefined }[] = [];
  const say = (): void => {};
  const parts = remoteParts(
    {
      exec: { run: () => Promise.reject(new Error("nothing runs here")) },
      files: localFiles,
      clock: { wall: () => 0, now: () => 0, sleep: async () => {} },
      paths: { package: here, cache: "/nowhere" },
      say,
    },
    elsewhere(ran),
    there,
  );
  assert.equal(await parts.files.readText(join(here, "recipe")), "ours");
  assert.equal(ran.length, 0);
  assert.equal(await parts.files.readText(join(there, "x")), undefined);
  await parts.files.write(join(there, "x"), "theirs", { mode: 0o600 });
  assert.equal(await parts.files.readText(join(there, "x")), "theirs");
  assert.deepEqual(await parts.files.list(there), ["x"]);
  await parts.files.remove(join(there, "x"));
  assert.deepEqual(await parts.files.list(there), []);
  await parts.exec.run(["true"], { env: { LC_ALL: "C" } });
  assert.deepEqual(ran.at(-1)?.options?.env, { TMPDIR: "/var/tmp", LC_ALL: "C" });
});

/** A finished build, elsewhere. */
async function finished(at: string, content: Uint8Array, sum = sha512(content)): Promise<Built> {
  const name = "debian-13-exitnode_0.0.0_amd64.tar.xz";
  const path = join(folder, at, name);
  await localFiles.write(path, content);
  await localFiles.write(`${path}.json`, '{"manifest":true}\n');
  await localFiles.write(`${path}.cdx.json`, '{"sbom":true}\n');
  const manifest = { name, bytes: content.length, sha512: sum } as Built["manifest"];
  return { path, manifest, built: true };
}

test("a template larger than what one command may print arrives to the byte, with manifest and list of parts", async () => {
  const content = new Uint8Array(randomBytes(13_000_001));
  const built = await finished("there1", content);
  const target = join(folder, "here1");
  await localFiles.write(`${target}/${built.manifest.name}.json.sig`, "of an earlier build");
  const parts = { ssh: elsewhere(), files: localFiles, say: () => {} };
  const got = await fetchBuilt(built, parts, target, sha512, new AbortController().signal);
  assert.equal(sha512(readFileSync(got.path)), sha512(content));
  assert.equal(readFileSync(`${got.path}.json`, "utf8"), '{"manifest":true}\n');
  assert.equal(readFileSync(`${got.path}.cdx.json`, "utf8"), '{"sbom":true}\n');
  assert.equal(await localFiles.read(`${got.path}.json.sig`), undefined);
});

test("a template that is not the one of its manifest is not kept", async () => {
  const built = await finished("there2", new Uint8Array(1_000), "0".repeat(128));
  const target = join(folder, "here2");
  const parts = { ssh: elsewhere(), files: localFiles, say: () => {} };
  await assert.rejects(fetchBuilt(built, parts, target, sha512, new AbortController().signal), {
    code: "checksum-mismatch",
  });
  assert.deepEqual(await localFiles.list(target), []);
});

test("a mirror is the builder's only archive, whatever stands in its name; one that fails is told with what to do", async () => {
  let script = "";
  const machine = (exitCode: number): Ssh => ({
    ...elsewhere(),
    run: async (argv, options) => {
      assert.deepEqual(argv, ["sh", "-s"]);
      script = String(options?.input);
      return { exitCode, stdout: "", stderr: "E: Unable to fetch" };
    },
  });
  await prepareBuild(machine(0), { mirror: "http://mirror.lan/it's" });
  assert.ok(script.includes("echo 'deb http://mirror.lan/it'\\''s trixie main' >/etc/apt/sources.list"), script);
  assert.ok(script.includes(`install ${BUILD_PACKAGES.join(" ")}`));
  await prepareBuild(machine(0), {});
  assert.ok(!script.includes("sources.list"), "without a mirror, the template's own archive is used");
  await assert.rejects(prepareBuild(machine(100), {}), { code: "archive-unreachable" });
});
