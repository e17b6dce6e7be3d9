import assert from "node:assert/strict";
import { appendFile, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { type ApplianceParts, buildAppliance, verifyAppliance } from "../../src/appliance/image.js";
import { Failure } from "../../src/kit/failure.js";
import { systemClock } from "../../src/sys/clock.js";
import { type Exec, localExec } from "../../src/sys/exec.js";
import { localFiles } from "../../src/sys/files.js";

/** Two real builds with a Debian archive at hand: about a minute, hence only when EXITNODE_LONG_TESTS is set. */
const long = process.env.EXITNODE_LONG_TESTS ? false : "set EXITNODE_LONG_TESTS=1";
const folder = await mkdtemp(join(tmpdir(), "exn-ap-test-"));
after(() => rm(folder, { recursive: true, force: true }));

const partsIn = (cache: string, exec: Exec = localExec): ApplianceParts => ({
  exec,
  files: localFiles,
  clock: systemClock,
  paths: { package: ".", cache: join(folder, cache) },
  say: () => {},
});

test("two builds of the same inputs are the same bytes, the third is not made, an altered file is found", {
  skip: long,
}, async () => {
  const parts = partsIn("first");
  const first = await buildAppliance(parts, { version: "0.0.1" });
  const second = await buildAppliance(partsIn("second"), { version: "0.0.1" });
  assert.equal(second.manifest.sha512, first.manifest.sha512);
  assert.deepEqual(second.manifest.packages, first.manifest.packages);
  const third = await buildAppliance(parts, { version: "0.0.1" });
  assert.deepEqual([first.built, second.built, third.built], [true, true, false]);
  assert.equal((await verifyAppliance(parts, first.path)).sha512, first.manifest.sha512);
  await appendFile(first.path, "x");
  await assert.rejects(verifyAppliance(parts, first.path), hasCode("appliance-altered"));
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
  await assert.rejects(verifyAppliance(partsIn("none"), join(folder, "nothing.tar.zst")), hasCode("manifest-missing"));
});

const hasCode = (code: string) => (error: unknown) => error instanceof Failure && error.code === code;
