import assert from "node:assert/strict";
import { test } from "node:test";
import {
  FOLLOW_EVERY_MS,
  KernelWireGuard,
  keptEndpoints,
  parseDump,
  probeKernelWireGuard,
  renderSyncConfig,
} from "../../src/agent/kernelwireguard.js";
import { parseEndpoint } from "../../src/kit/endpoint.js";
import { parseCidr } from "../../src/kit/ip.js";
import { keyOf } from "../../src/kit/key.js";
import { type Exec, localExec } from "../../src/sys/exec.js";
import type { WantInterface } from "../../src/wireguard/interface.js";

const key = (byte: number) => keyOf(new Uint8Array(32).fill(byte));
const want: WantInterface = {
  name: "exn0",
  privateKey: key(1),
  listenPort: 51_820,
  mtu: 1280,
  fwmark: 0x45_0000,
  peers: [
    {
      publicKey: key(2),
      presharedKey: key(3),
      endpoint: parseEndpoint("203.0.113.7:51820"),
      allowedIps: [parseCidr("100.64.0.2/32"), parseCidr("0.0.0.0/0")],
      persistentKeepaliveSeconds: 25,
    },
    {
      publicKey: key(4),
      endpoint: parseEndpoint("[2001:db8::7]:1024"),
      allowedIps: [],
      persistentKeepaliveSeconds: 0,
    },
  ],
};

test("the configuration is what wg syncconf reads, with the private key as the kernel keeps it", () => {
  assert.equal(
    renderSyncConfig(want, new Set([key(4)])),
    `[Interface]
PrivateKey = AAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAUE=
ListenPort = 51820
FwMark = 0x450000

[Peer]
PublicKey = AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=
PresharedKey = AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM=
AllowedIPs = 100.64.0.2/32, 0.0.0.0/0
Endpoint = 203.0.113.7:51820
PersistentKeepalive = 25

[Peer]
PublicKey = BAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQ=
PersistentKeepalive = off
`,
  );
});

const DUMP = `${key(1)}\t${key(9)}\t51820\t0x450000
${key(2)}\t${key(3)}\t198.51.100.9:40000\t100.64.0.2/32,0.0.0.0/0\t1700000000\t1234\t5678\t25
${key(4)}\t(none)\t(none)\t(none)\t0\t0\t0\toff
`;

test("a dump is read strictly, and holds no key but the peers' public ones afterwards", () => {
  const state = parseDump("exn0", DUMP, 1_700_000_012_500);
  assert.deepEqual(state, {
    name: "exn0",
    listenPort: 51_820,
    peers: [
      {
        publicKey: key(2),
        endpoint: parseEndpoint("198.51.100.9:40000"),
        lastHandshakeAgeMs: 12_500,
        receivedBytes: 1234,
        sentBytes: 5678,
      },
      { publicKey: key(4), receivedBytes: 0, sentBytes: 0 },
    ],
    warnings: [],
  });
  for (const broken of [
    DUMP.replace("\t51820", ""),
    DUMP.replace("1234", "-1"),
    DUMP.replace("198.51.100.9", "nowhere"),
  ])
    assert.throws(() => parseDump("exn0", broken, 0), { code: "wireguard-dump" });
});

test("a peer heard from a link-local address is told without the interface behind it", () => {
  const dump = DUMP.replace("198.51.100.9:40000", "[fe80::5054:ff:fe12:3456%wlp0s20f3]:40000");
  assert.deepEqual(parseDump("exn0", dump, 0).peers[0]?.endpoint, parseEndpoint("[fe80::5054:ff:fe12:3456]:40000"));
});

test("an endpoint is written when it is new, not when the peer may have moved since", () => {
  const state = parseDump("exn0", DUMP, 1_700_000_010_000);
  assert.deepEqual([...keptEndpoints(want, want, state)], [key(2)], "unchanged");
  const moved = { ...want, peers: want.peers.map((peer) => ({ ...peer, endpoint: parseEndpoint("192.0.2.1:1") })) };
  assert.deepEqual([...keptEndpoints(moved, want, state)], []);
  assert.deepEqual([...keptEndpoints(moved, undefined, state)], [key(2)], "adopted, and heard from ten seconds ago");
  assert.deepEqual([...keptEndpoints(moved, undefined, parseDump("exn0", DUMP, 1_700_000_999_000))], []);
  assert.deepEqual([...keptEndpoints(want, undefined, undefined)], []);
});

const THERE = parseEndpoint("203.0.113.7:51820");
const DUMMY = new Uint8Array(16);

/** A machine with at most one WireGuard interface, which keeps what it was given. */
class FakeMachine implements Exec {
  links: string[] = [];
  config = "";
  configured = 0;
  tables = 0;
  onTable = (): void => undefined;
  async run(argv: readonly string[], options: { input?: string | Uint8Array } = {}) {
    const line = argv.join(" ");
    const name = argv.at(-1) ?? "";
    const none = { exitCode: 1, stdout: "", stderr: "Unable to access interface: No such device\n" };
    const done = { exitCode: 0, stdout: "", stderr: "" };
    const dump = this.configured === 0 ? DUMP.replace("51820", "40000") : DUMP;
    if (line.startsWith("wg show")) return this.links.includes(argv[2] ?? "") ? { ...done, stdout: dump } : none;
    if (line.startsWith("nft list table")) return none;
    if (line === "nft -f -") {
      this.onTable();
      this.tables++;
    } else if (line.startsWith("ip link add")) this.links.push(argv[4] ?? "");
    else if (line === `ip link set dev ${argv[4]} up`) assert.ok(this.links.includes(argv[4] ?? ""));
    else if (line.startsWith("ip link delete")) this.links = this.links.filter((link) => link !== name);
    else if (argv[0] === "sh") {
      this.config = String(options.input);
      this.configured++;
    } else throw new Error(`unforeseen: ${line}`);
    assert.ok(![key(1), key(3)].some((secret) => line.includes(secret)), "no secret in an argument");
    return done;
  }
}

test("set makes the interface once, and an equal value touches nothing", async () => {
  const machine = new FakeMachine();
  const backend = new KernelWireGuard(machine, "exn0", { wall: () => 1_700_000_010_000 });
  await assert.rejects(backend.state(), { code: "interface-missing" });
  await backend.set(want);
  await backend.set({ ...want });
  assert.deepEqual([machine.links, machine.configured], [["exn0"], 1]);
  assert.equal(machine.config, renderSyncConfig(want));
  await backend.set({ ...want, listenPort: 51_821 });
  assert.equal(machine.config, renderSyncConfig({ ...want, listenPort: 51_821 }, new Set([key(2)])));
  await backend.close();
  assert.deepEqual(machine.links, []);
  await backend.set(want);
  assert.deepEqual(machine.links, ["exn0"], "and it comes back after close");
});

test("a port of the kernel's choice is kept when something else changes", async () => {
  const machine = new FakeMachine();
  const backend = new KernelWireGuard(machine, "exn0", { wall: () => 1_700_000_010_000 });
  const anyPort = { ...want, listenPort: 0 };
  await backend.set(anyPort);
  assert.equal(machine.config, renderSyncConfig(anyPort));
  await backend.set({ ...anyPort, fwmark: 7 });
  assert.equal(machine.config, renderSyncConfig({ ...want, fwmark: 7 }, new Set([key(2)])));
});

test("a look that falls into a change does not take probes to the port of before", async () => {
  const machine = new FakeMachine();
  machine.links.push("exn0");
  const ports: number[] = [];
  const backend = new KernelWireGuard(machine, "exn0", { wall: () => 1_700_000_010_000 }, async (port) => {
    ports.push(port);
    return { port, onReceive: undefined, send: () => undefined, close: () => undefined };
  });
  const [, state] = await Promise.all([backend.set(want), backend.state()]);
  assert.equal(state.listenPort, 40_000, "it was seen before the change");
  assert.deepEqual(ports, [51_821]);
  await backend.close();
});

test("the table of probes is there before anything is sent, and again half a minute after somebody took it away", async () => {
  const machine = new FakeMachine();
  let now = 1_700_000_010_000;
  let sent = 0;
  const socket = { port: 51_821, onReceive: undefined, send: () => void sent++, close: () => undefined };
  const backend = new KernelWireGuard(machine, "exn0", { wall: () => now }, async () => socket);
  const untold = backend.set(want);
  machine.onTable = () => backend.probes?.send(THERE, DUMMY);
  await untold;
  assert.equal(sent, 0, "nothing is sent from the socket's own port");
  backend.probes?.send(THERE, DUMMY);
  assert.equal(sent, 1);
  await backend.state();
  assert.equal(machine.tables, 1);
  now += FOLLOW_EVERY_MS;
  await backend.state();
  await backend.state();
  assert.equal(machine.tables, 2);
  await backend.close();
});

test("the probe agrees with the machine it runs on, and leaves nothing", async () => {
  const can = await probeKernelWireGuard(localExec);
  const modules = await localExec.run(["ip", "link", "add", "dev", "exnprobe2", "type", "wireguard"]);
  await localExec.run(["ip", "link", "delete", "dev", "exnprobe2"]);
  assert.equal(can, modules.exitCode === 0);
  assert.notEqual((await localExec.run(["ip", "link", "show", "dev", "exnprobe"])).exitCode, 0);
});
