import assert from "node:assert/strict";
import { test } from "node:test";
import { configSchema, credentialsSchema } from "../../src/cli/config.js";
import { type Administration, withLabHosts, withoutLabHosts } from "../../src/cli/labhosts.js";

const access = {
  rootPassword: "correct horse",
  fingerprint: Array.from({ length: 32 }, () => "AB").join(":"),
  token: { id: "exitnode@pve!lab", secret: "0b5f" },
};
const somebodys = {
  url: "https://192.168.1.10:8006",
  fingerprint: access.fingerprint,
  login: "root@pam",
  defaults: {},
};

function administration(hosts: Record<string, unknown>): Administration {
  const secrets = Object.fromEntries(Object.keys(hosts).map((name) => [name, { secret: "own" }]));
  return { config: configSchema.parse({ hosts }), credentials: credentialsSchema.parse({ hosts: secrets }) };
}

test("the lab's hosts are added beside the others, and taking them away restores the config", () => {
  const before = administration({ pve1: somebodys });
  const merged = withLabHosts(before, [access]);
  assert.deepEqual(merged.changed, ["lab", "lab-token"]);
  assert.deepEqual(configSchema.parse(merged.config), merged.config, "what is written can be read");
  assert.equal(merged.config.hosts["lab-token"]?.login, "exitnode@pve!lab");
  assert.equal(merged.credentials.hosts.lab?.secret, "correct horse");
  const { config, credentials } = withoutLabHosts(merged);
  assert.deepEqual({ config, credentials }, before);
});

test("the same access a second time changes nothing; another fingerprint changes both", () => {
  const merged = withLabHosts(administration({}), [access]);
  assert.deepEqual(withLabHosts(merged, [access]).changed, []);
  const renewed = withLabHosts(merged, [{ ...access, fingerprint: access.fingerprint.replace("AB", "CD") }]);
  assert.deepEqual(renewed.changed, ["lab", "lab-token"]);
  assert.deepEqual(renewed.foreign, []);
});

test("somebody's own host of the name `lab` is neither replaced nor removed", () => {
  const before = administration({ lab: somebodys });
  const merged = withLabHosts(before, [access]);
  assert.deepEqual([merged.changed, merged.foreign], [["lab-token"], ["lab"]]);
  const { config, credentials, changed } = withoutLabHosts(merged);
  assert.deepEqual({ config, credentials }, before);
  assert.deepEqual(changed, ["lab-token"]);
});

test("an entry that was changed since stays", () => {
  const merged = withLabHosts(administration({}), [access]);
  const { lab } = merged.config.hosts;
  assert.ok(lab);
  const config = { ...merged.config, hosts: { ...merged.config.hosts, lab: { ...lab, defaults: { memory: 1024 } } } };
  assert.deepEqual(withoutLabHosts({ ...merged, config }).changed, ["lab-token"]);
});

test("each host of the lab has its own pair of entries, and those of a host that is gone go", () => {
  const second = { ...access, rootPassword: "battery staple", fingerprint: access.fingerprint.replace("AB", "CD") };
  const merged = withLabHosts(administration({ pve1: somebodys }), [access, second]);
  assert.deepEqual(merged.changed, ["lab", "lab-token", "lab2", "lab2-token"]);
  const { lab2 } = merged.config.hosts;
  assert.deepEqual([lab2?.url, lab2?.pveNode], ["https://198.18.77.11:8006", "pve2"]);
  assert.equal(merged.credentials.hosts.lab2?.secret, "battery staple");
  const fewer = withLabHosts(merged, [access]);
  assert.deepEqual(fewer.changed, ["lab2", "lab2-token"]);
  assert.deepEqual(fewer.config, withLabHosts(administration({ pve1: somebodys }), [access]).config);
  assert.deepEqual(withoutLabHosts(merged).config, administration({ pve1: somebodys }).config);
});
