import assert from "node:assert/strict";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { sha256Hex } from "../../src/cli/servicefiles.js";
import { readTemplates } from "../../src/netconf/containerfiles.js";
import { renderRelayFiles } from "../../src/netconf/relayfiles.js";
import {
  changedFiles,
  type Machine,
  machineScript,
  machineTrouble,
  parseMachine,
  type Service,
} from "../../src/provision/machine.js";
import { coordinatorService, relayService } from "../../src/provision/services.js";
import { localExec } from "../../src/sys/exec.js";

/** Whole texts, compared with test/golden/machine/; EXITNODE_GOLDEN=write makes them anew, for `git diff` to show. */
const GOLDEN = "test/golden/machine";
const KEY = `${"A".repeat(43)}=`;
const read = async (name: string): Promise<string> => readFileSync(`templates/${name}`, "utf8");
const bundles = [{ from: "package.json", content: Buffer.from("{}\n") }];
const coordinator = coordinatorService(
  await readTemplates(read),
  bundles,
  {
    ...{ port: 8_443, stunPort: 3_479, otherStunPort: 3_480 },
    ...{ urls: ["https://vpn.example.net:8443"], adminTokenSha256: "0".repeat(64) },
  },
  { architecture: "x86_64", memoryMiB: 2_048 },
  sha256Hex,
);
const relay = relayService(
  await renderRelayFiles(read, { coordinatorKeys: [KEY], hosts: ["relay.example.net"] }),
  bundles,
  { port: 443, stunPort: 3_478 },
  sha256Hex,
);
const GOOD: Machine = {
  isRoot: true,
  system: ["debian"],
  architecture: "x86_64",
  systemd: true,
  node: "v20.19.2",
  sums: new Map(),
  owners: new Map(),
  active: false,
  enabled: false,
  others: [],
  tcp: new Set([22]),
  udp: new Set(),
  pending: false,
};

for (const service of [coordinator, relay])
  test(`the ${service.name}'s files on a machine are exactly those that were agreed on`, () => {
    for (const { path, mode, owner, content } of service.files) {
      const golden = join(GOLDEN, service.name, path);
      const text = `${mode.toString(8)} ${owner}\n${Buffer.from(content).toString()}`;
      if (process.env.EXITNODE_GOLDEN === "write") {
        mkdirSync(dirname(golden), { recursive: true });
        writeFileSync(golden, text);
      }
      assert.equal(text, readFileSync(golden, "utf8"), path);
    }
  });

test("a machine's own words are read: this one has a shell, a system and the ports it listens on", async () => {
  const { stdout } = await localExec.run(["sh", "-s"], { input: machineScript(relay) });
  const seen = parseMachine(stdout, relay);
  assert.equal(seen.isRoot, process.getuid?.() === 0);
  assert.ok(seen.system.length > 0 && /^(x86_64|aarch64)$/.test(seen.architecture), JSON.stringify(seen.system));
  assert.equal(changedFiles(seen, relay).length, relay.files.length, "nothing of a relay is here");
});

test("a listening port is one in the state that listens, whatever the address", () => {
  const proc = [
    "#exn-section# tcp",
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid",
    "   0: 00000000:01BB 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0",
    "   1: 0100007F:1F90 0100007F:C001 01 00000000:00000000 00:00000000 00000000     0",
    "#exn-section# udp",
    "   7: 00000000000000000000000000000000:0D96 00000000000000000000000000000000:0000 07 00000000:00000000",
  ].join("\n");
  const seen = parseMachine(proc, relay);
  assert.deepEqual([[...seen.tcp], [...seen.udp]], [[443], [3_478]]);
});

for (const { name, machine, service, code, says } of [
  {
    name: "lets in somebody else than root",
    machine: { isRoot: false },
    service: relay,
    code: "root-needed",
    says: /root/,
  },
  { name: "has no systemd", machine: { systemd: false }, service: relay, code: "machine-unsupported", says: /by hand/ },
  {
    name: "is no Debian",
    machine: { system: ["fedora"] },
    service: coordinator,
    code: "machine-unsupported",
    says: /exitnode serve/,
  },
  {
    name: "has another processor",
    machine: { architecture: "aarch64" },
    service: coordinator,
    code: "machine-unsupported",
    says: /aarch64/,
  },
  {
    name: "has no Node",
    machine: { node: "" },
    service: relay,
    code: "node-missing",
    says: /apt-get install -y nodejs/,
  },
  { name: "has Node 20.18", machine: { node: "v20.18.9" }, service: relay, code: "node-missing", says: /apt-get/ },
  {
    name: "has its port taken",
    machine: { tcp: new Set([443]) },
    service: relay,
    code: "port-taken",
    says: /ss -lnpt/,
  },
  {
    name: "has STUN's port taken",
    machine: { udp: new Set([3_479]) },
    service: coordinator,
    code: "port-taken",
    says: /ss -lnpu/,
  },
  {
    name: "runs a coordinator where a relay is wanted",
    machine: { tcp: new Set([443]), others: ["exitnode-coordinator.service"] },
    service: relay,
    code: "port-taken",
    says: /beside every coordinator/,
  },
] satisfies { name: string; machine: Partial<Machine>; service: Service; code: string; says: RegExp }[])
  test(`a machine that ${name} is refused before anything is changed: ${code}`, () => {
    const trouble = machineTrouble({ ...GOOD, ...machine }, service, "root@vps");
    assert.equal(trouble?.code, code);
    assert.match(trouble?.advice ?? "", says);
  });

test("a relay runs on any processor, on a newer Node, and on its own port when it is what holds it", () => {
  for (const machine of [{ architecture: "riscv64" }, { node: "v22.1.0" }, { active: true, tcp: new Set([443]) }])
    assert.equal(machineTrouble({ ...GOOD, ...machine }, relay, "root@vps"), undefined);
});

test("what is as wanted is not pushed; another mode, another owner or other bytes are", () => {
  const sums = new Map(coordinator.files.map(({ path, sha256 }) => [path, sha256]));
  const owners = new Map(coordinator.files.map(({ path, mode, owner }) => [path, `${mode.toString(8)} ${owner}`]));
  assert.deepEqual(changedFiles({ ...GOOD, sums, owners }, coordinator), []);
  const yaml = "/etc/exitnode/coordinator.yaml";
  const changed = [
    { ...GOOD, sums: new Map([...sums, [yaml, "0".repeat(64)] as const]), owners },
    { ...GOOD, sums, owners: new Map([...owners, [yaml, "644 root:root"] as const]) },
  ].map((machine) => changedFiles(machine, coordinator).map(({ path }) => path));
  assert.deepEqual(changed, [[yaml], [yaml]]);
});
