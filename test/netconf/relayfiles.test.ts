import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { Failure } from "../../src/kit/failure.js";
import { type RelayValues, renderRelayFiles } from "../../src/netconf/relayfiles.js";
import { decodeRelayConfig, otherStunPortBeside } from "../../src/wire/relayconfig.js";

/** Whole texts, compared with test/golden/relay/; EXITNODE_GOLDEN=write makes them anew, for `git diff` to show. */
const GOLDEN = "test/golden/relay";
const KEY = `${"A".repeat(43)}=`;
const read = async (name: string): Promise<string> => readFileSync(`templates/${name}`, "utf8");
const all: Record<string, RelayValues> = {
  plain: { coordinatorKeys: [KEY] },
  "two-ports": { stunPort: 5_000, otherStunPort: 6_000, coordinatorKeys: [KEY] },
  full: {
    node: "/usr/local/bin/node",
    program: "/srv/exitnode/relay.js",
    port: 8_443,
    stunPort: 0,
    coordinatorKeys: [KEY, KEY],
    hosts: ["relay.example.net", "2001:db8::7"],
    metricsPort: 9_478,
  },
};

for (const [name, values] of Object.entries(all))
  test(`${name} values give exactly the files that were agreed on, and the relay reads them`, async () => {
    for (const { path, content } of await renderRelayFiles(read, values)) {
      const golden = join(GOLDEN, name, path);
      if (process.env.EXITNODE_GOLDEN === "write") {
        mkdirSync(dirname(golden), { recursive: true });
        writeFileSync(golden, content);
      }
      assert.equal(content, readFileSync(golden, "utf8"), path);
      if (!path.endsWith(".json")) continue;
      const config = decodeRelayConfig(JSON.parse(content), path);
      assert.equal(config.listen.port, values.port ?? 443);
      assert.equal(config.stunPort, values.stunPort ?? 3_478);
      assert.equal(config.otherStunPort, values.otherStunPort ?? otherStunPortBeside(config.stunPort));
      assert.deepEqual(config.coordinatorKeys, values.coordinatorKeys);
      assert.equal(config.metrics?.port, values.metricsPort);
    }
  });

for (const values of [
  { coordinatorKeys: [] },
  { coordinatorKeys: ["x"] },
  { coordinatorKeys: [KEY], program: "/opt/a b" },
  { coordinatorKeys: [KEY], hosts: ['a"\nUser=root'] },
])
  test(`${JSON.stringify(values)} is refused`, async () => {
    await assert.rejects(renderRelayFiles(read, values), (error) => error instanceof Failure);
  });

const ANALYZE = "/usr/bin/systemd-analyze";
/** Keys that systemd knows from 254 on, which Debian 13 has; older ones pass over them, and try again every second. */
const NEWER = /Unknown key '(?:RestartSteps|RestartMaxDelaySec)'/;

test("systemd finds nothing to object to in the relay's unit, nor much that it leaves open", {
  skip: !existsSync(ANALYZE) && "needs systemd-analyze",
}, async () => {
  const folder = mkdtempSync(join(tmpdir(), "exn-unit-"));
  try {
    const program = join(folder, "relay.js");
    writeFileSync(program, "");
    const files = await renderRelayFiles(read, { node: process.execPath, program, coordinatorKeys: [KEY] });
    const unit = join(folder, "exitnode-relay.service");
    writeFileSync(unit, files.find(({ path }) => path.endsWith(".service"))?.content ?? assert.fail("no unit"));
    const verified = spawnSync(ANALYZE, ["verify", unit], { encoding: "utf8" });
    const objections = verified.stderr.split("\n").filter((line) => line.includes(unit) && !NEWER.test(line));
    assert.deepEqual([verified.status, objections], [0, []]);
    // Its own measure: 0 is shut off entirely, 100 is a program of root's.
    const exposed = spawnSync(ANALYZE, ["security", "--offline=true", "--threshold=20", unit], { encoding: "utf8" });
    assert.equal(exposed.status, 0, exposed.stdout.split("\n").at(-2));
  } finally {
    rmSync(folder, { recursive: true });
  }
});
