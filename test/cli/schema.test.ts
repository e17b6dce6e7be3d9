import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { configSchema, readConfig, writeConfig } from "../../src/cli/config.js";
import { configJsonSchema } from "../../src/cli/schemaaction.js";
import { keyOf } from "../../src/kit/key.js";
import { localFiles } from "../../src/sys/files.js";

const folder = mkdtempSync(join(tmpdir(), "exn-schema-"));
after(() => rmSync(folder, { recursive: true, force: true }));

/** JSON Schema (draft 7) as far as ours goes; a word that this does not know is an error, so that nothing goes unchecked. */
type Schema = Record<string, unknown>;

function problems(schema: Schema, value: unknown, at = "config"): string[] {
  const unknown = Object.keys(schema).filter((word) => !KNOWN.has(word));
  assert.deepEqual(unknown, [], `the checker does not know ${unknown.join(", ")}`);
  const say = (fits: boolean, words: string): string[] => (fits ? [] : [`${at}: ${words}`]);
  const found: string[] = [];
  if (typeof schema.type === "string" && !isOfType(value, schema.type)) return [`${at}: is no ${schema.type}`];
  if (Array.isArray(schema.enum)) found.push(...say(schema.enum.includes(value), "is none of the choices"));
  if (typeof value === "string") {
    if (typeof schema.pattern === "string")
      found.push(...say(new RegExp(schema.pattern).test(value), "has another form"));
    if (schema.format === "uri") found.push(...say(URL.canParse(value), "is no URL"));
  }
  if (typeof value === "number") {
    if (typeof schema.minimum === "number") found.push(...say(value >= schema.minimum, "is too small"));
    if (typeof schema.maximum === "number") found.push(...say(value <= schema.maximum, "is too large"));
  }
  if (Array.isArray(value)) {
    if (typeof schema.minItems === "number") found.push(...say(value.length >= schema.minItems, "has too few"));
    for (const [i, one] of value.entries()) found.push(...problems(schema.items as Schema, one, `${at}[${i}]`));
  } else if (value !== null && typeof value === "object") found.push(...membersOf(schema, value, at));
  return found;
}

function membersOf(schema: Schema, value: object, at: string): string[] {
  const properties = (schema.properties ?? {}) as Record<string, Schema>;
  const found: string[] = [];
  for (const name of (schema.required ?? []) as string[]) if (!(name in value)) found.push(`${at}.${name} is missing`);
  for (const [name, one] of Object.entries(value)) {
    if (schema.propertyNames !== undefined)
      found.push(...problems(schema.propertyNames as Schema, name, `${at}.${name}`));
    const own = properties[name] ?? schema.additionalProperties;
    if (own === false) found.push(`${at}.${name} is not known`);
    else if (own !== undefined) found.push(...problems(own as Schema, one, `${at}.${name}`));
  }
  return found;
}

const KNOWN: ReadonlySet<string> = new Set(
  "title $schema type properties required additionalProperties propertyNames items minItems pattern format enum minimum maximum default description".split(
    " ",
  ),
);

function isOfType(value: unknown, type: string): boolean {
  if (type === "array") return Array.isArray(value);
  if (type === "object") return value !== null && typeof value === "object" && !Array.isArray(value);
  return type === "integer" ? Number.isInteger(value) : typeof value === type;
}

const FINGERPRINT = `${"AB:".repeat(31)}CD`;
const HOST = { url: "https://192.168.1.10:8006", fingerprint: FINGERPRINT, login: "exitnode@pve!cli" };
const COORDINATOR = {
  urls: ["https://203.0.113.5"],
  adminUrls: ["https://192.168.1.5"],
  publicKey: keyOf(new Uint8Array(32).fill(7)),
  tlsFingerprint: FINGERPRINT,
};
const LAB = {
  hosts: {
    lab: {
      ...HOST,
      url: "https://198.18.77.11:8006",
      pveNode: "pve1",
      login: "root@pam",
      defaults: { whoami: ["http://whoami.lab/"] },
    },
    "lab-token": {
      ...HOST,
      url: "https://198.18.77.11:8006",
      pveNode: "pve1",
      login: "exitnode@pve!lab",
      defaults: {},
    },
  },
};
const DEFAULTS = {
  storage: "local-lvm",
  bridge: "vmbr1",
  vlan: 7,
  ip: "192.168.1.5/24",
  cores: 2,
  memory: 1024,
  disk: 8,
  dataPlane: "kernel",
  allowLan: ["10.0.0.0/8"],
  whoami: ["http://whoami.lab/"],
};
const full = (defaults: object): object => ({ hosts: { pve1: { ...HOST, defaults: { ...DEFAULTS, ...defaults } } } });

for (const { name, config, fits } of [
  { name: "an empty config", config: {}, fits: true },
  { name: "a host", config: { hosts: { pve1: HOST } }, fits: true },
  { name: "every default", config: full({}), fits: true },
  { name: "a coordinator", config: { hosts: {}, coordinator: COORDINATOR }, fits: true },
  { name: "the lab's hosts", config: LAB, fits: true },
  {
    name: "a pinned machine",
    config: { sshHosts: { "192.0.2.1:2222": { hostKey: `SHA256:${"A".repeat(43)}` } } },
    fits: true,
  },
  { name: "a key that does not exist", config: { hosts: { pve1: { ...HOST, fingerprnt: "x" } } }, fits: false },
  {
    name: "a host without its certificate",
    config: { hosts: { pve1: { url: HOST.url, login: HOST.login } } },
    fits: false,
  },
  { name: "half a fingerprint", config: { hosts: { pve1: { ...HOST, fingerprint: "AB:CD" } } }, fits: false },
  { name: "a login without a realm", config: { hosts: { pve1: { ...HOST, login: "root" } } }, fits: false },
  { name: "a host's name in capitals", config: { hosts: { PVE: HOST } }, fits: false },
  { name: "a VLAN out of range", config: full({ vlan: 5000 }), fits: false },
  { name: "half a core", config: full({ cores: 0.5 }), fits: false },
  { name: "a data plane that does not exist", config: full({ dataPlane: "turbo" }), fits: false },
  { name: "a list where a text should be", config: full({ storage: ["local"] }), fits: false },
  { name: "a coordinator without a URL", config: { coordinator: { ...COORDINATOR, urls: [] } }, fits: false },
])
  test(`${name}: the printed schema ${fits ? "takes" : "refuses"} it, as the program does`, () => {
    assert.equal(configSchema.safeParse(config).success, fits);
    const found = problems(configJsonSchema(), config);
    assert.equal(found.length === 0, fits, found.join("; "));
  });

test("the line by which an editor finds the schema outlives the config's being written anew", async () => {
  const line = "# yaml-language-server: $schema=./config.schema.json\n";
  await localFiles.write(join(folder, "config.yaml"), `${line}# a remark\nhosts: {}\n`);
  await writeConfig(localFiles, folder, configSchema.parse({ hosts: { pve1: HOST } }));
  const text = (await localFiles.readText(join(folder, "config.yaml"))) ?? "";
  assert.ok(text.startsWith(`${line}hosts:\n`), text);
  assert.deepEqual(Object.keys((await readConfig(localFiles, folder)).hosts), ["pve1"]);
});

test("the schema says in words what each key is, where its name does not", () => {
  const text = JSON.stringify(configJsonSchema());
  assert.match(text, /"\$schema":"http:\/\/json-schema\.org\/draft-07\/schema#"/);
  assert.match(text, /"additionalProperties":false/);
});
