import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import type { Outcome } from "../../src/cli/command.js";
import { readConfig, writeConfig } from "../../src/cli/config.js";
import { DOCTOR_WITHIN_MS, doctor } from "../../src/cli/doctoraction.js";
import { describeReport, type Trouble } from "../../src/cli/doctorreport.js";
import { SECOND } from "../../src/kit/time.js";
import { API_WITHIN_MS } from "../../src/provision/doctor/host.js";
import { INSIDE_WITHIN_MS, SHELL_WITHIN_MS } from "../../src/provision/doctor/look.js";
import { fine, stops, warns } from "../../src/provision/preflight/finding.js";
import { systemClock } from "../../src/sys/clock.js";
import { localFiles } from "../../src/sys/files.js";
import { DoctorWorld, type Situation } from "./doctorworld.js";

/** The command itself: what is asked, what becomes of a part that does not answer, and how it is told. */
let world: DoctorWorld;
async function open(situation: Situation = {}): Promise<void> {
  world = new DoctorWorld();
  await world.open(situation);
}
afterEach(() => world?.close());

const KEY = `${"A".repeat(43)}=`;
const list = ({ value }: Outcome): readonly Trouble[] => value as readonly Trouble[];

test("nothing found says so and what was looked at, as JSON it is an empty list, and the exit code is 0", async () => {
  await open({ empty: true });
  const outcome = await doctor(world.call([]));
  assert.deepEqual(outcome.value, []);
  assert.equal(outcome.exitCode, undefined);
  assert.match(outcome.text, /^pve1: nothing found; looked at version, PVE node, pve-container, permissions,/);
  for (const line of outcome.text.split("\n")) assert.ok(line.length <= 80, line);
});

test("something that stops ends with 1, something that could be better does not", async () => {
  await open({ status: "stopped" });
  const stopped = await doctor(world.call([], { host: ["pve1"] }));
  assert.equal(stopped.exitCode, 1);
  assert.match(
    stopped.text,
    /^pve1:\n {2}✗ home: container: container 101 does not run \[container-stopped\]\n {4}→ exitnode /,
  );
  await world.close();
  await open({
    empty: true,
    failed: [],
    data: { "/nodes/pve1/network": [{ iface: "vmbr0", type: "bridge", active: 1 }] },
    rights: {
      "/": [
        "VM.Allocate",
        "VM.Audit",
        "VM.PowerMgmt",
        "VM.Config.CPU",
        "VM.Config.Memory",
        "VM.Config.Disk",
        "VM.Config.Network",
        "VM.Config.Options",
        "Datastore.AllocateSpace",
        "Datastore.AllocateTemplate",
        "Datastore.Audit",
        "SDN.Use",
      ],
    },
  });
  const better = await doctor(world.call([]));
  assert.ok(list(better).length > 0 && list(better).every(({ severity }) => severity === "warns"), better.text);
  assert.equal(better.exitCode, undefined);
  assert.match(better.text, /^pve1:\n {2}! /);
});

for (const { title, situation, code } of [
  {
    title: "answers 596",
    situation: { answer: () => ({ status: 596, reason: "tls_process_server_certificate: certificate verify failed" }) },
    code: "pve-node-unreachable",
  },
  { title: "resets every connection", situation: { answer: () => "reset" as const }, code: "connection-lost" },
  {
    title: "knows the token no more",
    situation: { answer: () => ({ status: 401, reason: "no such token" }) },
    code: "login-refused",
  },
])
  test(`a host that ${title} is a finding, and not the end`, async () => {
    await open(situation);
    const outcome = await doctor(world.call([]));
    assert.deepEqual(
      list(outcome).map(({ about, severity, code: is }) => [about, severity, is]),
      [["pve1", "stops", code]],
      JSON.stringify(list(outcome)),
    );
    assert.equal(outcome.exitCode, 1);
    assert.ok(list(outcome)[0]?.advice !== undefined || code !== "login-refused");
  });

test("a certificate that is not the pinned one is told as that, with how to pin the new one", async () => {
  await open();
  const config = await readConfig(localFiles, world.home.folder);
  const { pve1 } = config.hosts;
  assert.ok(pve1);
  const other = { ...pve1, fingerprint: Array(32).fill("AB").join(":") };
  await writeConfig(localFiles, world.home.folder, { ...config, hosts: { pve1: other } });
  const [found] = list(await doctor(world.call([])));
  assert.deepEqual([found?.name, found?.code], ["certificate", "fingerprint-mismatch"]);
  assert.match(found?.advice ?? "", /exitnode host add pve1 --url https:.*compare it again/);
});

test("a host that never answers is a finding when its time is over, and all times together are under 20 s", async () => {
  await open({ answer: () => "silence" });
  // Only the clock of the limits is fast.
  const hurried = { ...systemClock, sleep: (ms: number, signal?: AbortSignal) => systemClock.sleep(ms / 100, signal) };
  const call = world.call([]);
  const outcome = await doctor({ ...call, parts: { ...call.parts, clock: hurried } });
  assert.deepEqual(
    list(outcome).map(({ code }) => code),
    ["look-deadline"],
  );
  assert.ok(API_WITHIN_MS + INSIDE_WITHIN_MS + SHELL_WITHIN_MS < DOCTOR_WITHIN_MS, "one look after the other");
  assert.ok(DOCTOR_WITHIN_MS < 20 * SECOND);
});

test("one silent host hides nothing of the others", async () => {
  await open({ status: "stopped" });
  const config = await readConfig(localFiles, world.home.folder);
  const { pve1 } = config.hosts;
  assert.ok(pve1);
  const hosts = { gone: { ...pve1, url: "https://127.0.0.1:1" }, pve1 };
  await writeConfig(localFiles, world.home.folder, { ...config, hosts });
  const call = world.call([]);
  const env = { EXITNODE_SECRET_GONE: "x" };
  const outcome = await doctor({ ...call, parts: { ...call.parts, env } });
  assert.deepEqual([...new Set(list(outcome).map(({ about }) => about))], ["gone", "pve1"]);
});

test("a coordinator that does not answer is told beside the hosts, and not when one host was asked for", async () => {
  await open({ empty: true });
  const config = await readConfig(localFiles, world.home.folder);
  const coordinator = {
    urls: ["https://127.0.0.1:1"],
    adminUrls: ["https://127.0.0.1:1"],
    publicKey: KEY as never,
    tlsFingerprint: Array(32).fill("AB").join(":"),
  };
  await writeConfig(localFiles, world.home.folder, { ...config, coordinator });
  const call = world.call([]);
  const asked = { ...call, parts: { ...call.parts, env: { EXITNODE_ADMIN_TOKEN: "t" } } };
  assert.deepEqual(
    list(await doctor(asked)).map(({ about, code }) => [about, code]),
    [["coordinator", "coordinator-unreachable"]],
  );
  assert.deepEqual(list(await doctor({ ...asked, options: { host: ["pve1"] } })), []);
});

for (const { title, pinned, online, is } of [
  { title: "that works, with an exit node that does", pinned: true, online: true, is: [] },
  {
    title: "whose exit node is not connected",
    pinned: true,
    online: false,
    is: [["coordinator", "warns", "exit nodes", "home is not connected"]],
  },
  {
    title: "in whose place another certificate is shown",
    pinned: false,
    online: true,
    is: [["coordinator", "stops", "certificate", "another certificate"]],
  },
])
  test(`a coordinator ${title}: ${is.length === 0 ? "nothing is found" : "that is told"}`, async () => {
    const exit = { id: "1", name: "home", role: "exit-node", publicKey: KEY, addresses: [], routes: [], endpoints: [] };
    const devices = [{ ...exit, online, agentVersion: "0.1.0", createdAtMs: 0, tags: [], ephemeral: false }];
    const status = {
      version: "0.1.0",
      publicKey: KEY,
      tlsFingerprint: "",
      urls: [],
      devices: 1,
      online: 1,
      startedAtMs: 0,
    };
    await open({
      empty: true,
      answer: ({ path }) =>
        path.startsWith("/api/v1")
          ? { status: 200, body: JSON.stringify(path.endsWith("/status") ? status : { devices }) }
          : undefined,
    });
    const { url = "", fingerprint = "" } = world.host ?? {};
    const config = await readConfig(localFiles, world.home.folder);
    const tlsFingerprint = pinned ? fingerprint : Array(32).fill("AB").join(":");
    const coordinator = { urls: [url], adminUrls: [url], publicKey: KEY as never, tlsFingerprint };
    await writeConfig(localFiles, world.home.folder, { ...config, coordinator });
    const call = world.call([]);
    const found = list(await doctor({ ...call, parts: { ...call.parts, env: { EXITNODE_ADMIN_TOKEN: "t" } } }));
    assert.deepEqual(
      found.map(({ about, severity, name }) => [about, severity, name]),
      is.map((row) => row.slice(0, 3)),
      JSON.stringify(found),
    );
    for (const [i, row] of is.entries()) assert.ok(found[i]?.what.includes(row[3] ?? ""), found[i]?.what);
  });

test("with neither device nor host there is nothing to examine, and that is said", async () => {
  await open();
  await writeConfig(localFiles, world.home.folder, { hosts: {} });
  await assert.rejects(doctor(world.call([])), { code: "nothing-to-examine" });
  await assert.rejects(doctor(world.call([], { host: ["pve9"] })).then(({ value }) => assert.deepEqual(value, [])));
});

test("what stops comes first, the same is told once, and commands are not broken into lines", () => {
  const command = `pct set 101 --net0 ${"x".repeat(100)}`;
  const text = describeReport([
    {
      about: "pve1",
      findings: [
        fine("version", "9.2"),
        warns("modules", "the module is not loaded", { why: "a container may not", advice: "modprobe tun" }),
        stops("address", "address-missing", "no address", { advice: `on the Proxmox host, as root:\n${command}` }),
        stops("address", "address-missing", "no address", { advice: command }),
      ],
    },
    { about: "this machine", findings: [fine("agent", "0.1")] },
  ]);
  assert.equal(
    text,
    [
      "pve1:",
      "  ✗ address: no address [address-missing]",
      "    → on the Proxmox host, as root:",
      `      ${command}`,
      "  ! modules: the module is not loaded",
      "      a container may not",
      "    → modprobe tun",
      "",
      "this machine: nothing found; looked at agent",
    ].join("\n"),
  );
});
