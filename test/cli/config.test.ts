import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { configSchema, credentialsSchema, parseFile, readConfig, writeConfig } from "../../src/cli/config.js";
import { Failure } from "../../src/kit/failure.js";
import { localFiles } from "../../src/sys/files.js";

const folder = mkdtempSync(join(tmpdir(), "exn-config-"));
after(() => rmSync(folder, { recursive: true, force: true }));

const FINGERPRINT = `${"AB:".repeat(31)}CD`;
const HOST = `hosts:
  pve1:
    url: https://192.168.1.10:8006
    fingerprint: ${FINGERPRINT}
    login: exitnode@pve!cli
`;

test("a config that is not there is an empty one", async () => {
  assert.deepEqual(await readConfig(localFiles, folder), { hosts: {} });
});

test("what is written is read back the same", async () => {
  const config = configSchema.parse(parseFile("config.yaml", HOST, configSchema));
  await writeConfig(localFiles, folder, config);
  assert.deepEqual(await readConfig(localFiles, folder), config);
});

for (const { name, text, says } of [
  {
    name: "a key that does not exist",
    text: `${HOST}    fingerprnt: x\n`,
    says: /^config\.yaml line \d+: .*fingerprnt/,
  },
  { name: "a URL without TLS", text: HOST.replace("https:", "http:"), says: /line 3: hosts\.pve1\.url: / },
  {
    name: "half a fingerprint",
    text: HOST.replace(FINGERPRINT, "AB:CD"),
    says: /line 4: hosts\.pve1\.fingerprint: must be 32 hex pairs/,
  },
  {
    name: "a login without a realm",
    text: HOST.replace("@pve", ""),
    says: /line 5: hosts\.pve1\.login: must be user@realm/,
  },
  { name: "broken YAML", text: "hosts: [", says: /^config\.yaml line 1: / },
]) {
  test(`${name} is refused with file, line and what was expected`, () => {
    assert.throws(
      () => parseFile("config.yaml", text, configSchema),
      (error: unknown) => {
        assert.ok(error instanceof Failure && error.code === "config-invalid");
        assert.match(error.message, says);
        return true;
      },
    );
  });
}

test("a bad credentials file is refused without quoting what is in it", () => {
  const text = "hosts:\n  pve1:\n    secret: 12345678\n";
  assert.throws(
    () => parseFile("credentials.yaml", text, credentialsSchema),
    (error: unknown) => error instanceof Failure && !error.message.includes("12345678"),
  );
});
