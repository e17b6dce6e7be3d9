import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Engine } from "../../src/engine/engine.js";
import { keyPairOf } from "../../src/kit/crypto.js";
import { parseEndpoint } from "../../src/kit/endpoint.js";
import { parseCidr, parseIp } from "../../src/kit/ip.js";
import { keyOf } from "../../src/kit/key.js";
import { type HostNet, planHostNet } from "../../src/netconf/hostnet.js";
import { type Observation, type Output, observeHostNet, readHostNet } from "../../src/netconf/hostnetobserve.js";
import { mustRun } from "../../src/sys/exec.js";
import type { WantInterface } from "../../src/wireguard/interface.js";
import { threadIn } from "./enginethread.js";
import { makePair, must, type Place, pings, removePlaces, startWireguardGo, stop } from "./places.js";

/** The engine and the routing together: a client whose whole traffic goes through wireguard-go as its exit. */
const PLACES = ["exn-en-r1", "exn-en-r2"] as const;
const OURS = new Uint8Array(32).fill(0x41);
const THEIRS = new Uint8Array(32).fill(0x42);
const MARK = 0x45_0000;
const FAR = "203.0.113.9";

const want: WantInterface = {
  name: "exnenra",
  privateKey: keyOf(OURS),
  listenPort: 51_820,
  mtu: 1280,
  fwmark: MARK,
  peers: [
    {
      publicKey: keyOf(keyPairOf(THEIRS).publicKey),
      endpoint: parseEndpoint("10.99.7.2:51820"),
      allowedIps: [parseCidr("0.0.0.0/0"), parseCidr("::/0")],
      persistentKeepaliveSeconds: 0,
    },
  ],
};
const net: HostNet = {
  device: want.name,
  mtu: want.mtu,
  addresses: [parseIp("100.64.7.1"), parseIp("fd7e:7::1")],
  routes: [],
  everything: true,
  fwmark: MARK,
  uid: undefined,
  escapes: [],
  resolver: undefined,
};

let client: Place;
let exit: Place;
let engine: Engine;
let other: Awaited<ReturnType<typeof startWireguardGo>>;

before(async () => {
  [client, exit] = await makePair(...PLACES);
  await must(client, "ip route add default via 10.99.7.2");
  other = await startWireguardGo(exit, "exnenrb");
  await mustRun(exit.exec, ["sh", "-c", "cat | wg setconf exnenrb /dev/stdin"], {
    input: `[Interface]
PrivateKey = ${keyOf(THEIRS)}
ListenPort = 51820
[Peer]
PublicKey = ${keyOf(keyPairOf(OURS).publicKey)}
AllowedIPs = 100.64.7.1/32, fd7e:7::1/128
`,
  });
  await must(exit, "ip link set exnenrb mtu 1280 up");
  await must(exit, "ip route add 100.64.7.1/32 dev exnenrb");
  await must(exit, `ip address add ${FAR}/32 dev lo`);
  engine = new Engine({ workerUrl: threadIn(client.name) });
});
after(async () => {
  await engine?.close();
  if (other !== undefined) await stop(other);
  removePlaces(...PLACES);
});

async function apply(wanted: HostNet | undefined): Promise<void> {
  const outputs: Partial<Record<Observation, Output>> = {};
  for (const { name, argv } of observeHostNet(net.device)) outputs[name] = await client.exec.run(argv);
  const observed = readHostNet(net.device, outputs as Record<Observation, Output>, {});
  for (const { argv, input } of planHostNet(wanted, observed))
    await mustRun(client.exec, argv, input === undefined ? {} : { input });
}

const received = async (): Promise<number> => (await engine.state()).peers[0]?.receivedBytes ?? 0;

test("with everything in the tunnel the tunnel's own datagrams still leave, and pings pass through it", async () => {
  await engine.set(want);
  await apply(net);
  const before = await received();
  assert.equal(await pings(client, FAR), true);
  assert.ok((await received()) > before, "by the tunnel, not by the default route");
});

test("a machine that changes networks sets its default route anew, as every DHCP client does", async () => {
  await must(client, "ip route replace default via 10.99.7.2 dev wire");
  const before = await received();
  assert.equal(await pings(client, FAR), true);
  assert.ok((await received()) > before, "still by the tunnel");
});

test("when the engine is gone nothing passes beside it, until the routing is undone", async () => {
  await engine.close();
  assert.equal(await pings(client, FAR, "-W", "1"), false);
  await apply(undefined);
  assert.equal(await pings(client, FAR), true);
});
