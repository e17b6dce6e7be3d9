import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { appendFile, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { buildAppliance } from "../../src/appliance/image.js";
import type { ApplianceManifest } from "../../src/appliance/manifest.js";
import { publicKeyOf, signManifest } from "../../src/appliance/signature.js";
import { compareBuilds, verifyAppliance } from "../../src/appliance/verify.js";
import type { ApplianceParts } from "../../src/appliance/workshop.js";
import { Failure } from "../../src/kit/failure.js";
import { systemClock } from "../../src/sys/clock.js";
import { type Exec, localExec } from "../../src/sys/exec.js";
import { localFiles } from "../../src/sys/files.js";

/** Two real builds with a Debian archive at hand: some four minutes, hence only when EXITNODE_LONG_TESTS is set. */
const long = process.env.EXITNODE_LONG_TESTS ? false : "set EXITNODE_LONG_TESTS=1";
/** Fits the memory of a small storage, and a slow line's patience. */
const BYTES_MAX = 50_000_000;
const folder = await mkdtemp(join(tmpdir(), "exn-ap-test-"));
after(() => rm(folder, { recursive: true, force: true }));

const partsIn = (cache: string, exec: Exec = localExec): ApplianceParts => ({
  exec,
  files: localFiles,
  clock: systemClock,
  paths: { package: ".", cache: join(folder, cache) },
  say: () => {},
});

const SEED = new Uint8Array(32).fill(7);
const publicKey = publicKeyOf(SEED);

/** As `appliance build` does with the administrator's key. */
function sign(path: string): void {
  writeFileSync(`${path}.json.sig`, signManifest(SEED, new Uint8Array(readFileSync(`${path}.json`))));
}

test("two builds in two folders under two host names are the same bytes, and what is altered is found", {
  skip: long,
}, async () => {
  const parts = partsIn("first");
  const first = await buildAppliance(parts, { version: "0.0.1" });
  const elsewhere = partsIn("second", renamed("another-builder.example"));
  const second = await buildAppliance(elsewhere, { version: "0.0.1", folder: join(folder, "given") });
  assert.equal(second.path, join(folder, "given", first.manifest.name));
  assert.equal(second.manifest.sha512, first.manifest.sha512);
  assert.deepEqual(second.manifest.sbom, first.manifest.sbom);
  assert.ok(first.manifest.bytes <= BYTES_MAX, `${first.manifest.bytes} bytes`);
  const third = await buildAppliance(parts, { version: "0.0.1" });
  assert.deepEqual([first.built, second.built, third.built], [true, true, false]);

  await assert.rejects(verifyAppliance(parts, first.path, { publicKey }), hasCode("signature-missing"));
  sign(first.path);
  assert.equal((await verifyAppliance(parts, first.path, { publicKey })).sha512, first.manifest.sha512);
  const sbom: unknown = JSON.parse(readFileSync(`${first.path}.cdx.json`, "utf8"));
  assert.ok(sbom !== null && typeof sbom === "object" && "components" in sbom && Array.isArray(sbom.components));
  assert.ok(sbom.components.length > first.manifest.packages.length);
  await appendFile(`${first.path}.cdx.json`, " ");
  await assert.rejects(verifyAppliance(parts, first.path, { publicKey }), hasCode("appliance-altered"));
  await appendFile(first.path, "x");
  await assert.rejects(verifyAppliance(parts, first.path, { publicKey }), hasCode("appliance-altered"));
});

/** Runs everything on a machine of that name. */
function renamed(name: string): Exec {
  const enter = ["unshare", "--uts", "sh", "-c", 'hostname "$0"; exec "$@"', name];
  return { run: (argv, options) => localExec.run([...enter, ...argv], options) };
}

const SUM = "ab".repeat(64);
const MANIFEST: ApplianceManifest = {
  name: "t.tar.xz",
  version: "0.0.1",
  suite: "trixie",
  architecture: "amd64",
  inputs: "1",
  builtAt: "2026-01-01T00:00:00.000Z",
  sha512: SUM,
  bytes: 1,
  unpackedBytes: 1,
  unpackedSha512: SUM,
  packages: [{ name: "bash", version: "1", installedKiB: 1 }],
};

test("a rebuild that differs says whether it is the archive, the compressor or neither", () => {
  const other = "cd".repeat(64);
  const newer = [{ name: "bash", version: "2", installedKiB: 1 }];
  compareBuilds(MANIFEST, { ...MANIFEST, builtAt: "2026-02-02T00:00:00.000Z" });
  for (const [rebuilt, code, words] of [
    [{ sha512: other, packages: newer }, "appliance-not-reproduced", /bash 1 → 2/],
    [{ sha512: other }, "appliance-packed-differently", /same to the byte/],
    [{ sha512: other, unpackedSha512: other }, "appliance-not-reproduced", /the same packages and the same recipe/],
    [{ sha512: other, unpackedSha512: other, inputs: "2" }, "appliance-not-reproduced", /another recipe/],
  ] as const)
    assert.throws(
      () => compareBuilds(MANIFEST, { ...MANIFEST, ...rebuilt }),
      (error) =>
        error instanceof Failure && error.code === code && words.test(error.message) && error.advice !== undefined,
    );
});

test("a machine that is no Debian is told what to do instead", async () => {
  const mac: Exec = {
    run: async ([program = ""]) => {
      if (program === "apt-get") throw new Failure("exec-failed", "cannot run apt-get");
      return { exitCode: program === "sh" ? 1 : 0, stdout: "501\n", stderr: "" };
    },
  };
  await assert.rejects(
    buildAppliance(partsIn("mac", mac), { version: "0.0.1", mirror: "http://mirror.example/debian" }),
    hasCode("tools-missing"),
  );
});

test("who is not root is told to become it, before anything is fetched", async () => {
  const argvs: string[] = [];
  const user: Exec = {
    async run(argv) {
      argvs.push(argv[0] ?? "");
      if (argv[0] === "id") return { exitCode: 0, stdout: "1000\n", stderr: "" };
      return { exitCode: 0, stdout: "Debian\thttp://mirror.example/debian/\n", stderr: "" };
    },
  };
  await assert.rejects(buildAppliance(partsIn("user", user), { version: "0.0.1" }), hasCode("not-root"));
  assert.ok(!argvs.includes("mmdebstrap"));
});

test("a file without a manifest cannot be verified", async () => {
  await assert.rejects(
    verifyAppliance(partsIn("none"), join(folder, "nothing.tar.xz"), { publicKey }),
    hasCode("manifest-missing"),
  );
});

const hasCode = (code: string) => (error: unknown) => error instanceof Failure && error.code === code;
