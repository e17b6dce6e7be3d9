import assert from "node:assert/strict";
import type { ChildProcess } from "node:child_process";
import { after, before, describe, test } from "node:test";
import { concat, fromHex, utf8 } from "../../src/kit/bytes.js";
import { keyPairOf } from "../../src/kit/crypto.js";
import { parseEndpoint } from "../../src/kit/endpoint.js";
import { parseCidr } from "../../src/kit/ip.js";
import { keyOf } from "../../src/kit/key.js";
import { probePortOf, renderProbeMux } from "../../src/netconf/probemux.js";
import { type DatagramSocket, openDatagramSocket } from "../../src/sys/dgram.js";
import { mustRun } from "../../src/sys/exec.js";
import type { Backend, Probes, WantInterface } from "../../src/wireguard/interface.js";
import { lostOf } from "../vm/lostwhile.js";
import type { Bench } from "./backendcontract.js";
import { Inbox } from "./inbox.js";
import { insidePlace } from "./insideplace.js";
import { makePair, must, type Place, pings, removePlaces, startWireguardGo, stop } from "./places.js";

/**
 * What both backends promise of Backend.probes. The other end is wireguard-go and, on the same port by the rewriting
 * that kernel WireGuard uses too, a plain socket: probes and WireGuard then share even the sender's port.
 */
const PORT = 51_820;
const OTHER_PORT = 51_900;
const STUN_PORT = 3_478;
const OURS = new Uint8Array(32).fill(0x44);
const THEIRS = new Uint8Array(32).fill(0x55);
const publicOf = (privateKey: Uint8Array) => keyOf(keyPairOf(privateKey).publicKey);
const FAMILIES = [
  { family: "IPv4", here: "10.99.7.1", there: "10.99.7.2" },
  { family: "IPv6", here: "[fd99:7::1]", there: "[fd99:7::2]" },
] as const;

const hex = (text: string): Uint8Array => {
  const bytes = fromHex(text.replaceAll(" ", ""));
  assert.ok(bytes !== undefined, text);
  return bytes;
};
const probe = (text: string): Uint8Array => concat(hex("45584e44"), utf8(text));
const stun = (type: "0001" | "0101" | "0111"): Uint8Array =>
  hex(`${type} 000c 2112a442 0102030405060708090a0b0c 0020 0008 0001a147 e112a643`);

export function probesContract(title: string, bench: Bench): void {
  const device = `${bench.prefix}a`;
  const remote = `${bench.prefix}b`;
  const want: WantInterface = {
    name: device,
    privateKey: keyOf(OURS),
    listenPort: PORT,
    mtu: 1280,
    fwmark: 0x45_0000,
    peers: [
      {
        publicKey: publicOf(THEIRS),
        endpoint: parseEndpoint(`10.99.7.2:${PORT}`),
        allowedIps: [parseCidr("100.64.7.2/32")],
        persistentKeepaliveSeconds: 0,
      },
    ],
  };

  describe(title, () => {
    let here: Place;
    let there: Place;
    let other: ChildProcess;
    let backend: Backend;
    let probes: Probes;
    let theirs: Inbox;
    const ours = new Inbox();
    const sockets: DatagramSocket[] = [];

    before(async () => {
      [here, there] = await makePair(`${bench.prefix}1`, `${bench.prefix}2`);
      other = await startWireguardGo(there, remote);
      await mustRun(there.exec, ["sh", "-c", 'cat | wg setconf "$1" /dev/stdin', "sh", remote], {
        input: `[Interface]
PrivateKey = ${keyOf(THEIRS)}
ListenPort = ${PORT}
[Peer]
PublicKey = ${publicOf(OURS)}
AllowedIPs = 100.64.7.1/32
`,
      });
      await must(there, `ip link set ${remote} mtu 1280 up`);
      await must(there, `ip address add 100.64.7.2/24 dev ${remote}`);
      const probePort = probePortOf(PORT);
      await must(there, "nft -f -", renderProbeMux({ listenPort: PORT, probePort }));
      theirs = await inboxAt(probePort);

      backend = await bench.open(here, device);
      await backend.set(want);
      await must(here, `ip link set ${device} mtu 1280 up`);
      await must(here, `ip address add 100.64.7.1/24 dev ${device}`);
      assert.ok(backend.probes !== undefined, "the backend has probes");
      probes = backend.probes;
      probes.onReceive = ours.take;
      assert.equal(await pings(here, "100.64.7.2"), true);
    });
    after(async () => {
      for (const socket of sockets) socket.close();
      await backend?.close();
      if (other !== undefined) await stop(other);
      removePlaces(`${bench.prefix}1`, `${bench.prefix}2`);
    });

    async function inboxAt(port: number): Promise<Inbox> {
      const socket = await insidePlace(there, () => openDatagramSocket(port));
      sockets.push(socket);
      const inbox = new Inbox(socket);
      socket.onReceive = inbox.take;
      return inbox;
    }
    const receivedBytes = async () => (await backend.state()).peers[0]?.receivedBytes;

    for (const { family, here: hereIp, there: thereIp } of FAMILIES) {
      const here = parseEndpoint(`${hereIp}:${PORT}`);
      const there = parseEndpoint(`${thereIp}:${PORT}`);

      test(`a probe on WireGuard's port reaches the probe listener, with its sender, and not WireGuard (${family})`, async () => {
        const before = await receivedBytes();
        theirs.send(here, probe("who is there"));
        assert.deepEqual(await ours.next(), { datagram: probe("who is there"), from: there });
        assert.equal(await receivedBytes(), before);
      });

      test(`so does an answer of STUN, a success and an error (${family})`, async () => {
        for (const type of ["0101", "0111"] as const) {
          theirs.send(here, stun(type));
          assert.deepEqual(await ours.next(), { datagram: stun(type), from: there });
        }
      });

      test(`nothing else does: neither a question of STUN nor a probe cut short (${family})`, async () => {
        for (const stray of [stun("0001"), hex("45584e44"), hex("45584e44 010203"), utf8("hello, world"), hex("")])
          theirs.send(here, stray);
        theirs.send(here, probe("the last one"));
        assert.deepEqual((await ours.next()).datagram, probe("the last one"));
      });

      test(`what is sent leaves with WireGuard's port (${family})`, async () => {
        probes.send(there, probe("an answer"));
        assert.deepEqual(await theirs.next(), { datagram: probe("an answer"), from: here });
        const server = await inboxAt(STUN_PORT + (family === "IPv4" ? 0 : 1));
        probes.send({ ...there, port: server.port }, stun("0001"));
        assert.deepEqual(await server.next(), { datagram: stun("0001"), from: here });
      });
    }

    test("what must arrive whole and does not fit the link is lost, when anything else arrives in pieces", async () => {
      const long = (size: number) => concat(hex("45584e44"), new Uint8Array(size - 4));
      // The smallest MTU that keeps IPv6 on the link.
      await must(here, "ip link set wire mtu 1280");
      try {
        for (const { there: ip, family } of FAMILIES) {
          const to = parseEndpoint(`${ip}:${PORT}`);
          const fits = 1_280 - (family === "IPv4" ? 28 : 48);
          probes.send(to, long(fits + 1), true);
          probes.send(to, long(fits), true);
          assert.equal((await theirs.next()).datagram.length, fits, family);
          probes.send(to, long(fits + 2));
          assert.equal((await theirs.next()).datagram.length, fits + 2, family);
        }
      } finally {
        await must(here, "ip link set wire mtu 1500");
      }
    });

    test("WireGuard's traffic on the same ports of the same addresses is untouched", async () => {
      const before = (await receivedBytes()) ?? 0;
      const [v4] = FAMILIES;
      const [us, them] = [parseEndpoint(`${v4.here}:${PORT}`), parseEndpoint(`${v4.there}:${PORT}`)];
      const pinged = lostOf(here, "100.64.7.2", 20);
      for (let i = 0; i < 20; i++) {
        theirs.send(us, probe(`out ${i}`));
        assert.deepEqual(await ours.next(), { datagram: probe(`out ${i}`), from: them });
        probes.send(them, probe(`back ${i}`));
        assert.deepEqual(await theirs.next(), { datagram: probe(`back ${i}`), from: us });
      }
      assert.deepEqual(await pinged, []);
      const [peer] = (await backend.state()).peers;
      assert.ok(peer !== undefined && peer.receivedBytes >= before + 20 * 84, "WireGuard received every ping");
      assert.deepEqual(peer.endpoint, them);
    });

    test("a datagram without a listener, a route or a receiver is lost, and nothing else", async () => {
      const [v4] = FAMILIES;
      probes.onReceive = undefined;
      theirs.send(parseEndpoint(`${v4.here}:${PORT}`), probe("to nobody"));
      probes.send(parseEndpoint("192.0.2.1:9"), probe("no route"));
      probes.send(parseEndpoint(`${v4.there}:9`), probe("no receiver"));
      assert.equal(await pings(here, "100.64.7.2"), true);
      probes.onReceive = ours.take;
      theirs.send(parseEndpoint(`${v4.here}:${PORT}`), probe("to me"));
      assert.deepEqual((await ours.next()).datagram, probe("to me"));
    });

    test("probes follow the interface to another port", async () => {
      const [v4] = FAMILIES;
      await backend.set({ ...want, listenPort: OTHER_PORT });
      const moved = parseEndpoint(`${v4.here}:${OTHER_PORT}`);
      theirs.send(moved, probe("there you are"));
      assert.deepEqual((await ours.next()).datagram, probe("there you are"));
      probes.send(parseEndpoint(`${v4.there}:${PORT}`), probe("here I am"));
      assert.deepEqual((await theirs.next()).from, moved);
    });

    test("close leaves no rule and no socket behind", async () => {
      await backend.close();
      assert.doesNotMatch(await must(here, "nft list tables"), /exitnode/);
      assert.doesNotMatch(await must(here, "ss -Hlun"), /:51[0-9]{3}\b/);
    });
  });
}
