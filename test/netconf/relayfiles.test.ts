import assert from "node:assert/strict";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { Failure } from "../../src/kit/failure.js";
import { type RelayValues, renderRelayFiles } from "../../src/netconf/relayfiles.js";
import { decodeRelayConfig } from "../../src/wire/relayconfig.js";

/** Whole texts, compared with test/golden/relay/; EXITNODE_GOLDEN=write makes them anew, for `git diff` to show. */
const GOLDEN = "test/golden/relay";
const KEY = `${"A".repeat(43)}=`;
const read = async (name: string): Promise<string> => readFileSync(`templates/${name}`, "utf8");
const all: Record<string, RelayValues> = {
  plain: { coordinatorKeys: [KEY] },
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
