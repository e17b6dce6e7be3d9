import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { Failure } from "../../src/kit/failure.js";
import { hostKeyIn } from "../../src/provision/hostkey.js";
import { readIdentity, writeIdentity } from "../../src/provision/identity.js";
import { observationScript, parseObservation, sysctlSettings } from "../../src/provision/inside.js";
import { ownUrls, publicFrom } from "../../src/provision/payload.js";
import { chooseTemplate } from "../../src/provision/preflight/template.js";
import { parseName, parseOptions, refuseFixed, resolveSpec } from "../../src/provision/spec.js";
import { localExec } from "../../src/sys/exec.js";

describe("options", () => {
  const good: [Record<string, unknown>, object][] = [
    [{}, {}],
    [
      { ip: "dhcp", ip6: "none" },
      { ip: "dhcp", ip6: "none" },
    ],
    [
      { ip: "192.168.1.5/24", gateway: "192.168.1.1" },
      { ip: "192.168.1.5/24", gateway: "192.168.1.1" },
    ],
    [{ ip6: "FD00:0::5/64" }, { ip6: "fd00::5/64" }],
    [
      { memory: "1024", cores: "2", vmid: "100" },
      { memory: 1024, cores: 2, vmid: 100 },
    ],
    [{ allowLan: ["198.18.77.9/24", "fd00::/8"] }, { allowLan: ["198.18.77.0/24", "fd00::/8"] }],
    [{ allowLan: ["none"] }, { allowLan: [] }],
    [{ publicAddress: "home.example.org" }, { publicAddress: "home.example.org" }],
  ];
  for (const [typed, expected] of good)
    test(`${JSON.stringify(typed)} is taken`, () => assert.deepEqual(parseOptions(typed), expected));

  const bad: Record<string, unknown>[] = [
    { memory: "64" },
    { memory: "lots" },
    { memory: "512.5" },
    { cores: "0" },
    { vmid: "99" },
    { vmid: "1e3" },
    { vlan: "4095" },
    { ip: "192.168.1.5" },
    { ip: "fd00::5/64" },
    { ip6: "192.168.1.5/24" },
    { gateway: "router" },
    { allowLan: ["the-lan"] },
    { dataPlane: "wireguard-go" },
    { storage: "local,size=1" },
    { bridge: "vmbr0,tag=1" },
    { publicAddress: "http://x" },
    { pveNode: "pve1/../x" },
  ];
  for (const typed of bad)
    test(`${JSON.stringify(typed)} is refused with its flag and value`, () => {
      assert.throws(
        () => parseOptions(typed),
        (error) => error instanceof Failure && error.code === "option-invalid" && error.message.startsWith("--"),
      );
    });

  for (const name of ["", "-a", "a-", "A", "a b", "a.b", "ü", "a".repeat(64)])
    test(`the name ${JSON.stringify(name)} is refused`, () => {
      assert.throws(
        () => parseName(name),
        (error) => error instanceof Failure && error.code === "name-invalid",
      );
    });

  test("given now goes before given earlier, before the host's, before ours", () => {
    const spec = resolveSpec(
      "home",
      { cores: 4 },
      { cores: 3, memory: 300 },
      { cores: 2, memory: 200, allowLan: ["10.0.0.0/8"] },
    );
    assert.deepEqual([spec.cores, spec.memoryMib, spec.allowLan, spec.dataPlane], [4, 300, ["10.0.0.0/8"], "auto"]);
    assert.deepEqual(spec.given, { cores: 4, memory: 300 });
  });

  test("what was settled at the making is refused afterwards, unless it is the same", () => {
    refuseFixed("home", { storage: "local", disk: 4, memory: 1 }, { storage: "local", disk: "4" });
    assert.throws(
      () => refuseFixed("home", { bridge: "vmbr1" }, { bridge: "vmbr0" }),
      (error) => error instanceof Failure && error.code === "option-fixed" && error.message.includes("--bridge"),
    );
  });
});

describe("the description", () => {
  const identity = { id: "ab12", name: "home", hostKey: "SHA256:x", given: { memory: 1024 } };
  test("holds the identity, which reads back", () => {
    assert.deepEqual(readIdentity(writeIdentity("", identity)), identity);
  });
  test("keeps what people wrote around our line", () => {
    const written = writeIdentity("# Mine\nask $& before $1 touching", identity);
    const edited = `${written}\n\nafter it`;
    const again = writeIdentity(edited, { ...identity, name: "$&" });
    assert.match(again, /^# Mine\nask \$& before \$1 touching/);
    assert.match(again, /after it$/);
    assert.equal(readIdentity(again)?.name, "$&");
    assert.equal(again.match(/^exitnode: /gm)?.length, 1);
  });
  for (const text of ["", "exitnode: yes", 'exitnode: {"id":1}', 'note exitnode: {"id":"a","name":"b"}'])
    test(`${JSON.stringify(text)} is nobody's of ours`, () => assert.equal(readIdentity(text), undefined));
});

describe("the host key in the create task's log", () => {
  const key = `SHA256:${"k".repeat(43)}`;
  const rsa = [
    "Creating SSH host key 'ssh_host_rsa_key' - this may take some time ...",
    `done: SHA256:${"r".repeat(43)} root@home`,
  ];
  const ed = ["Creating SSH host key 'ssh_host_ed25519_key' - this may take some time ...", `done: ${key} root@home`];
  for (const [name, log, expected] of [
    ["first", [...ed, ...rsa], key],
    ["last", [...rsa, ...ed, "TASK OK"], key],
    ["absent", rsa, undefined],
    ["cut off", ed.slice(0, 1), undefined],
    ["in another form", [ed[0] ?? "", "done: MD5:aa root@home"], undefined],
  ] as const)
    test(`${name}`, () => assert.equal(hostKeyIn(log), expected));
});

describe("looking inside", () => {
  test("one script, run by a real shell, tells of files, modes, owners, settings and the data plane", async () => {
    const folder = await mkdtemp(join(tmpdir(), "exn-look-"));
    try {
      const path = join(folder, "it's a file");
      await writeFile(path, "abc", { mode: 0o640 });
      const script = observationScript({
        paths: [path, join(folder, "absent")],
        sysctlKeys: ["net.ipv4.ip_forward", "net/ipv4/tcp_syncookies", "net.ipv4.no_such_key"],
        whoami: [],
      });
      const ran = await localExec.run(["unshare", "-n", "sh", "-s"], { input: script });
      assert.equal(ran.exitCode, 0, ran.stderr);
      const inside = parseObservation(ran.stdout);
      assert.deepEqual(
        [...inside.files],
        [
          [
            path,
            {
              sha256: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
              mode: 0o640,
              owner: "root:root",
            },
          ],
        ],
      );
      assert.equal(inside.sysctl.get("net/ipv4/ip_forward"), "0");
      assert.deepEqual([...inside.sysctl.keys()], ["net/ipv4/ip_forward", "net/ipv4/tcp_syncookies"]);
      assert.deepEqual([inside.agent, inside.coordinator, inside.egress.ipv4], [undefined, undefined, undefined]);
      assert.deepEqual([...inside.units.keys()], ["ssh", "nftables", "exitnode-agent", "exitnode-coordinator"]);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });

  test("garbage is an observation of nothing, not a crash", () => {
    const inside = parseObservation("garbage\n#exn-section# agent\n{not json\n#exn-section# outside\n[1]");
    assert.deepEqual([inside.files.size, inside.agent, inside.egress.ipv4], [0, undefined, undefined]);
  });

  test("a sysctl file's keys are read with dots, slashes and leading minus", () => {
    const settings = sysctlSettings("# c\n-net.ipv6.conf.all.forwarding = 1\nnet/ipv4/conf/eth0.1/rp_filter=2\n");
    assert.deepEqual(
      [...settings],
      [
        ["net/ipv6/conf/all/forwarding", "1"],
        ["net/ipv4/conf/eth0.1/rp_filter", "2"],
      ],
    );
  });
});

describe("addresses", () => {
  test("a coordinator is reached from outside first, and IPv6 has brackets", () => {
    assert.deepEqual(ownUrls(["203.0.113.10", undefined, "192.168.1.5"]), [
      "https://203.0.113.10:443",
      "https://192.168.1.5:443",
    ]);
    assert.deepEqual(ownUrls([undefined, "2001:db8::5", "2001:db8::5"]), ["https://[2001:db8::5]:443"]);
  });
  test("a private address that a whoami service sees is no public address", () => {
    assert.deepEqual(["203.0.113.10", "192.168.1.5", "100.64.0.9", "x", undefined].map(publicFrom), [
      "203.0.113.10",
      undefined,
      undefined,
      undefined,
      undefined,
    ]);
  });
});

test("without a template of ours, Debian's own is taken, the newest of it, and nothing else", () => {
  const there = [
    "debian-13-standard_13.1-2_amd64.tar.zst",
    "debian-13-standard_13.2-1_amd64.tar.zst",
    "alpine-3.tar.xz",
  ];
  const volumes = there.map((name) => ({ volid: `local:vztmpl/${name}`, sizeBytes: 1, createdAtSeconds: 1 }));
  const chosen = chooseTemplate(undefined, "local", volumes, undefined);
  assert.deepEqual(chosen, { kind: "on-host", volid: "local:vztmpl/debian-13-standard_13.2-1_amd64.tar.zst" });
  assert.equal(chooseTemplate(undefined, "local", volumes.slice(2), undefined).kind, "missing");
});
