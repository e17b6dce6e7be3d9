import assert from "node:assert/strict";
import type { ChildProcess } from "node:child_process";
import { after, before, describe, test } from "node:test";
import { keyPairOf } from "../../src/kit/crypto.js";
import { parseEndpoint } from "../../src/kit/endpoint.js";
import { parseCidr } from "../../src/kit/ip.js";
import { keyOf } from "../../src/kit/key.js";
import { mustRun } from "../../src/sys/exec.js";
import type { Backend, PeerState, WantInterface, WantPeer } from "../../src/wireguard/interface.js";
import { makePair, must, type Place, pings, removePlaces, startWireguardGo, stop } from "./places.js";

/** What both backends promise, held against wireguard-go in a namespace of its own. */
export type Bench = {
  /** Begins the names of devices and places; at most 8 characters. */
  readonly prefix: string;
  /** A backend that works inside the place, on the interface of that name. */
  open(place: Place, device: string): Promise<Backend>;
};

const secret = (byte: number) => new Uint8Array(32).fill(byte);
const OURS = secret(0x11);
const THEIRS = secret(0x22);
const SHARED = keyOf(secret(0x33));
const publicOf = (privateKey: Uint8Array) => keyOf(keyPairOf(privateKey).publicKey);
const PORT = 51_820;

export function backendContract(title: string, bench: Bench): void {
  const device = `${bench.prefix}a`;
  const remote = `${bench.prefix}b`;
  const peer: WantPeer = {
    publicKey: publicOf(THEIRS),
    presharedKey: SHARED,
    endpoint: parseEndpoint(`10.99.7.2:${PORT}`),
    allowedIps: [parseCidr("100.64.7.2/32"), parseCidr("fd7e:7::2/128")],
    persistentKeepaliveSeconds: 0,
  };
  const want: WantInterface = {
    name: device,
    privateKey: keyOf(OURS),
    listenPort: PORT,
    mtu: 1280,
    fwmark: 0x45_0000,
    peers: [peer],
  };

  describe(title, () => {
    let here: Place;
    let there: Place;
    let other: ChildProcess;
    let backend: Backend;

    before(async () => {
      [here, there] = await makePair(`${bench.prefix}1`, `${bench.prefix}2`);
      other = await startWireguardGo(there, remote);
      await mustRun(there.exec, ["sh", "-c", 'cat | wg setconf "$1" /dev/stdin', "sh", remote], {
        input: `[Interface]
PrivateKey = ${keyOf(THEIRS)}
ListenPort = ${PORT}
[Peer]
PublicKey = ${publicOf(OURS)}
PresharedKey = ${SHARED}
AllowedIPs = 100.64.7.1/32, fd7e:7::1/128
`,
      });
      await must(there, `ip link set ${remote} mtu 1280 up`);
      await must(there, `ip address add 100.64.7.2/24 dev ${remote}`);
      await must(there, `ip address add fd7e:7::2/64 dev ${remote} nodad`);
      backend = await bench.open(here, device);
    });
    after(async () => {
      await backend?.close();
      if (other !== undefined) await stop(other);
      removePlaces(`${bench.prefix}1`, `${bench.prefix}2`);
    });

    const peerState = async (): Promise<PeerState> => {
      const [state] = (await backend.state()).peers;
      assert.ok(state !== undefined, "the peer is there");
      return state;
    };

    test("set makes an interface that carries IPv4 and IPv6", async () => {
      await backend.set(want);
      await must(here, `ip link set ${device} mtu 1280 up`);
      await must(here, `ip address add 100.64.7.1/24 dev ${device}`);
      await must(here, `ip address add fd7e:7::1/64 dev ${device} nodad`);
      assert.equal(await pings(here, "100.64.7.2"), true);
      assert.equal(await pings(here, "fd7e:7::2"), true);
      assert.equal(await pings(here, "100.64.7.2", "-s", "1252", "-M", "do"), true, "up to the MTU");
      assert.equal(await pings(there, "100.64.7.1"), true);
    });

    test("state tells the port, the endpoint, the handshake's age and the bytes", async () => {
      const state = await backend.state();
      assert.deepEqual([state.name, state.listenPort], [device, PORT]);
      const { endpoint, lastHandshakeAgeMs = -1, receivedBytes, sentBytes } = await peerState();
      assert.deepEqual(endpoint, peer.endpoint);
      assert.ok(lastHandshakeAgeMs >= 0 && lastHandshakeAgeMs < 60_000, `age ${lastHandshakeAgeMs}`);
      assert.ok(receivedBytes > 1_252 && receivedBytes < 20_000, `received ${receivedBytes}`);
      assert.ok(sentBytes > 1_252 && sentBytes < 20_000, `sent ${sentBytes}`);
    });

    test("an equal value changes nothing: the session lives on", async () => {
      /** It was in this time: asking takes a while, and the kernel tells whole seconds. */
      const handshake = async (): Promise<{ from: number; to: number }> => {
        const askedAt = performance.now();
        const { lastHandshakeAgeMs = 0 } = await peerState();
        return { from: askedAt - lastHandshakeAgeMs - 1_000, to: performance.now() - lastHandshakeAgeMs };
      };
      const before = await handshake();
      await backend.set({ ...want, peers: [{ ...peer }] });
      assert.equal(await pings(here, "100.64.7.2"), true);
      const after = await handshake();
      assert.ok(before.from <= after.to && after.from <= before.to, "the handshake is the same one");
    });

    test("a peer that moves is followed, and an equal value does not send us back", async () => {
      await must(there, `wg set ${remote} listen-port 51999`);
      assert.equal(await pings(there, "100.64.7.1"), true);
      assert.deepEqual((await peerState()).endpoint, parseEndpoint("10.99.7.2:51999"));
      await backend.set({ ...want });
      assert.deepEqual((await peerState()).endpoint, parseEndpoint("10.99.7.2:51999"));
      assert.equal(await pings(here, "100.64.7.2"), true);
    });

    test("a new endpoint is taken at once, over IPv6 too", async () => {
      const moved = parseEndpoint("[fd99:7::2]:51999");
      await backend.set({ ...want, peers: [{ ...peer, endpoint: moved }] });
      assert.deepEqual((await peerState()).endpoint, moved);
      assert.equal(await pings(here, "100.64.7.2"), true);
      assert.deepEqual((await peerState()).endpoint, moved, "answers come from there");
    });

    test("point sends elsewhere at once, though the peer has moved there and back, and an equal value keeps it", async () => {
      const [v4, v6] = [parseEndpoint("10.99.7.2:51999"), parseEndpoint("[fd99:7::2]:51999")];
      await backend.point(peer.publicKey, v4);
      assert.deepEqual((await peerState()).endpoint, v4);
      assert.equal(await pings(here, "100.64.7.2"), true);
      await backend.point(peer.publicKey, v6);
      await backend.set({ ...want, peers: [{ ...peer, endpoint: v6 }] });
      assert.deepEqual((await peerState()).endpoint, v6);
      await backend.point(peer.publicKey, v4);
      await backend.point(peer.publicKey, v6);
      assert.deepEqual((await peerState()).endpoint, v6);
      assert.equal(await pings(here, "100.64.7.2"), true);
    });

    test("point knows no peer that was not set", async () => {
      const stranger = publicOf(secret(0x77));
      await backend.point(stranger, parseEndpoint("10.99.7.2:51999"));
      assert.deepEqual(
        (await backend.state()).peers.map(({ publicKey }) => publicKey),
        [peer.publicKey],
      );
    });

    test("a removed peer is cut off in both directions, and comes back when set again", async () => {
      await backend.set({ ...want, peers: [] });
      assert.deepEqual((await backend.state()).peers, []);
      assert.equal(await pings(here, "100.64.7.2", "-W", "1"), false);
      assert.equal(await pings(there, "100.64.7.1", "-W", "1"), false);
      await backend.set({ ...want, peers: [{ ...peer, endpoint: parseEndpoint("10.99.7.2:51999") }] });
      assert.equal(await pings(here, "100.64.7.2"), true);
    });

    test("packets from an address that is not the peer's are dropped", async () => {
      await must(there, `ip address add 100.64.7.99/32 dev ${remote}`);
      await must(there, `wg set ${remote} peer ${publicOf(OURS)} allowed-ips 100.64.7.0/24`);
      assert.equal(await pings(there, "100.64.7.1", "-W", "1", "-I", "100.64.7.99"), false);
      assert.equal(await pings(there, "100.64.7.1", "-I", "100.64.7.2"), true);
    });

    test("another port is listened on, without losing the session", async () => {
      await backend.set({
        ...want,
        listenPort: 51_900,
        peers: [{ ...peer, endpoint: parseEndpoint("10.99.7.2:51999") }],
      });
      assert.equal((await backend.state()).listenPort, 51_900);
      assert.equal(await pings(here, "100.64.7.2"), true);
      assert.match(await must(there, `wg show ${remote} endpoints`), /10\.99\.7\.1:51900/);
    });

    test("close removes the interface", async () => {
      await backend.close();
      assert.notEqual((await here.exec.run(["ip", "link", "show", "dev", device])).exitCode, 0);
      await assert.rejects(backend.state(), { code: "interface-missing" });
      await backend.close();
    });
  });
}
