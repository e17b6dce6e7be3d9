import assert from "node:assert/strict";
import { test } from "node:test";
import { keyPairOf } from "../../src/kit/crypto.js";
import { parseEndpoint } from "../../src/kit/endpoint.js";
import { ipFromBytes, makeCidr } from "../../src/kit/ip.js";
import { keyOf } from "../../src/kit/key.js";
import { PEERS_MAX as MAP_PEERS_MAX } from "../../src/wire/map.js";
import { PEERS_MAX } from "../../src/wireguard/constants.js";
import { Device, type Effect } from "../../src/wireguard/device.js";
import type { WantPeer } from "../../src/wireguard/interface.js";
import { echoRequest } from "./icmp.js";
import { bytesOf, chanceOf } from "./world.js";

/** An exit node that everybody in a network of ten thousand may use. */
const random = bytesOf(chanceOf(11));
const addressOf = (n: number) => ipFromBytes(Uint8Array.of(100, 64 | (n >> 16), (n >> 8) & 255, n & 255));
const stranger = (n: number): WantPeer => ({
  publicKey: keyOf(random(32)),
  allowedIps: [makeCidr(addressOf(n), 32)],
  persistentKeepaliveSeconds: 0,
});

test("an interface takes every peer that a network map may hold", () => {
  assert.equal(PEERS_MAX, MAP_PEERS_MAX);
});

test("among as many peers as there may be the last one gets a session, and one more peer is refused by number", () => {
  const [exitKeys, deviceKeys] = [keyPairOf(random(32)), keyPairOf(random(32))];
  const [exit, device] = [0, 1].map(() => new Device({ random, wallMs: () => 1_700_000_000_000 })) as [Device, Device];
  const peers = Array.from({ length: PEERS_MAX }, (_, n) => stranger(n + 1));
  peers[PEERS_MAX - 1] = { ...stranger(PEERS_MAX), publicKey: keyOf(deviceKeys.publicKey) };
  exit.configure({ privateKey: keyOf(exitKeys.privateKey), peers }, 0);
  const own = addressOf(PEERS_MAX);
  const [exitAt, deviceAt] = ["203.0.113.1:51820", "203.0.113.2:51820"].map(parseEndpoint);
  assert.ok(exitAt !== undefined && deviceAt !== undefined);
  const everything = [makeCidr(addressOf(0), 10)];
  const toExit = {
    ...{ publicKey: keyOf(exitKeys.publicKey), allowedIps: everything, endpoint: exitAt },
    persistentKeepaliveSeconds: 0,
  };
  device.configure({ privateKey: keyOf(deviceKeys.privateKey), peers: [toExit] }, 0);

  const delivered: Uint8Array[] = [];
  const carry = (to: Device, from: typeof exitAt, effects: readonly Effect[]): void => {
    for (const effect of effects)
      if (effect.kind === "send")
        carry(to === exit ? device : exit, to === exit ? exitAt : deviceAt, to.receive(effect.datagram, from, 1));
      else delivered.push(effect.packet);
  };
  const packet = echoRequest(own, addressOf(1), 1);
  carry(exit, deviceAt, device.send(packet, 1));
  assert.deepEqual(
    delivered.map(({ length }) => length),
    [packet.length],
  );
  assert.throws(() => exit.configure({ privateKey: keyOf(exitKeys.privateKey), peers: [...peers, stranger(0)] }, 2), {
    code: "peers-too-many",
  });
});
