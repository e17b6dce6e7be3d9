import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Engine } from "../../src/engine/engine.js";
import { concat } from "../../src/kit/bytes.js";
import { parseEndpoint } from "../../src/kit/endpoint.js";
import { parseCidr } from "../../src/kit/ip.js";
import { TRANSPORT_HEADER_BYTES, writeTransportHeader } from "../../src/wireguard/messages.js";
import { nodeAead } from "../../src/wireguard/transportaead.js";
import { packet } from "../wireguard/world.js";
import { CorePeer } from "./corepeer.js";
import { threadIn } from "./enginethread.js";
import { until } from "./patience.js";
import { makePair, must, type Place, pings, removePlaces } from "./places.js";
import { addressed, OURS, PORT, THEIRS, WIRE4 } from "./tunnel.js";
import { identityOf } from "./wireguardgo.js";

/** A peer whose messages are authentic and whose packets are none: nothing of it reaches the machine, all else does. */
const PLACES = ["exn-io-e1", "exn-io-e2"] as const;
const DEVICE = "exn-io-ea";
const us = identityOf("us before nonsense");
const them = identityOf("them with nonsense");

const whole = packet(THEIRS.ip4, OURS.ip4, new Uint8Array(64));
const whole6 = packet(THEIRS.ip6, OURS.ip6, new Uint8Array(64));

/** The packet with other bytes from `at` on. */
const spoilt = (bytes: Uint8Array, at: number, ...values: number[]): Uint8Array => {
  const copy = bytes.slice();
  copy.set(values, at);
  return copy;
};

const BROKEN: { readonly what: string; readonly packets: readonly Uint8Array[] }[] = [
  { what: "of one byte", packets: [Uint8Array.of(0x45), Uint8Array.of(0x60), Uint8Array.of(0)] },
  { what: "shorter than their header", packets: [whole.subarray(0, 19), whole6.subarray(0, 39)] },
  { what: "shorter than they say", packets: [spoilt(whole, 2, 0xff, 0xff), spoilt(whole6, 4, 0xff, 0xff)] },
  { what: "shorter than their header by their own word", packets: [spoilt(whole, 2, 0, 19), spoilt(whole, 2, 0, 0)] },
  { what: "with a header of no length", packets: [spoilt(whole, 0, 0x40), spoilt(whole, 0, 0x44)] },
  { what: "of no version of IP", packets: [0, 1, 2, 3, 5, 7, 15].map((version) => spoilt(whole, 0, version * 16 + 5)) },
  {
    what: "from an address that is not theirs",
    packets: [packet("100.64.7.9", OURS.ip4), packet("fd7e:7::9", OURS.ip6)],
  },
  { what: "from our own address", packets: [packet(OURS.ip4, OURS.ip4), packet(OURS.ip6, OURS.ip6)] },
];

describe("authentic messages that hold packets", () => {
  let here: Place;
  let engine: Engine;
  let peer: CorePeer;
  before(async () => {
    let there: Place;
    [here, there] = await makePair(...PLACES);
    peer = await CorePeer.open(there, parseEndpoint(`${WIRE4.theirs}:${PORT}`), {
      identity: them,
      other: us.publicKey,
      endpoint: `${WIRE4.ours}:${PORT}`,
      own: THEIRS.ip4,
      allowedIps: [OURS.ip4, OURS.ip6],
    });
    engine = new Engine({ workerUrl: threadIn(here.name) });
    const allowedIps = [parseCidr(THEIRS.ip4), parseCidr(THEIRS.ip6)];
    await engine.set({
      name: DEVICE,
      privateKey: us.privateKey,
      listenPort: PORT,
      mtu: 1420,
      fwmark: 0,
      peers: [{ publicKey: them.publicKey, allowedIps, persistentKeepaliveSeconds: 0 }],
    });
    await must(here, `ip link set ${DEVICE} mtu 1420 up`);
    await addressed(here, DEVICE, `${OURS.ip4}/24`, `${OURS.ip6}/64`);
    await peer.pings(OURS.ip4);
  });
  after(async () => {
    peer?.close();
    await engine?.close();
    removePlaces(...PLACES);
  });

  const given = async (): Promise<number> =>
    Number(await must(here, `cat /sys/class/net/${DEVICE}/statistics/rx_packets`));
  const received = async (): Promise<number> => (await engine.state()).peers[0]?.receivedBytes ?? 0;

  /** Seals whatever it is, as the protocol would never do. */
  function sendSealed(plaintext: Uint8Array): void {
    const session = peer.sessionTo(OURS.ip4);
    const header = new Uint8Array(TRANSPORT_HEADER_BYTES);
    writeTransportHeader(header, session.remoteIndex, session.counterHigh, session.counterLow);
    const sealed = new Uint8Array(plaintext.length + 16);
    nodeAead.seal(session.sendKey, session.counterLow, plaintext, sealed, 0);
    session.advance();
    peer.sendDatagram(concat(header, sealed), parseEndpoint(`${WIRE4.ours}:${PORT}`));
  }

  for (const { what, packets } of BROKEN)
    test(`${what} are dropped, and the next good one arrives`, async () => {
      const [packetsBefore, bytesBefore] = [await given(), await received()];
      for (const one of packets) sendSealed(one);
      const bytes = packets.reduce((sum, one) => sum + 32 + one.length, 0);
      await until("all were opened", async () => (await received()) >= bytesBefore + bytes);
      assert.equal(await given(), packetsBefore, "none was handed to the machine");
      await peer.pings(OURS.ip4);
      assert.equal(await pings(here, THEIRS.ip4), true);
    });

  test("with a tail beyond their length arrive without it", async () => {
    const before = Number(await must(here, `cat /sys/class/net/${DEVICE}/statistics/rx_bytes`));
    sendSealed(concat(whole, new Uint8Array(400).fill(0xee)));
    const arrived = async (): Promise<number> =>
      Number(await must(here, `cat /sys/class/net/${DEVICE}/statistics/rx_bytes`)) - before;
    await until("it arrived", async () => (await arrived()) > 0);
    assert.equal(await arrived(), whole.length);
  });
});
