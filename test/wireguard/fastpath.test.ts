import assert from "node:assert/strict";
import { test } from "node:test";
import { toHex } from "../../src/kit/bytes.js";
import type { Endpoint } from "../../src/kit/endpoint.js";
import { type Millis, SECOND } from "../../src/kit/time.js";
import { Device, type Effect } from "../../src/wireguard/device.js";
import { readIpPacket } from "../../src/wireguard/ippacket.js";
import { counterOf, type Keypair } from "../../src/wireguard/keypairs.js";
import { TRANSPORT_BYTES_MIN, TRANSPORT_HEADER_BYTES, writeTransportHeader } from "../../src/wireguard/messages.js";
import { nodeAead } from "../../src/wireguard/transportaead.js";
import { CALM, INSTANT, numbered, type Party, pairIn, type Weather, World } from "./world.js";

/**
 * An engine that seals and opens by itself, in the order in which it must ask and tell the device, against the device
 * that does everything: in the same weather with the same chance, both must live the same life to the byte.
 */
const MTU = 1420;

function seal(keypair: Keypair, packet: Uint8Array): Uint8Array {
  const length = Math.min(Math.ceil(packet.length / 16) * 16, Math.max(packet.length, MTU));
  const datagram = new Uint8Array(TRANSPORT_BYTES_MIN + length);
  writeTransportHeader(datagram, keypair.remoteIndex, keypair.counterHigh, keypair.counterLow);
  datagram.set(packet, TRANSPORT_HEADER_BYTES);
  const counter = counterOf(keypair.counterHigh, keypair.counterLow);
  const plaintext = datagram.subarray(TRANSPORT_HEADER_BYTES, TRANSPORT_HEADER_BYTES + length);
  nodeAead.seal(keypair.sendKey, counter, plaintext, datagram, TRANSPORT_HEADER_BYTES);
  keypair.advance();
  return datagram;
}

class EngineDevice extends Device {
  /** How often the engine had its own way. */
  byItself = 0;

  override send(packet: Uint8Array, now: Millis): Effect[] {
    const head = readIpPacket(packet);
    const peer = head === undefined ? undefined : this.route(packet, head.destinationAt, head.family);
    const keypair = peer?.outlet(now);
    if (peer?.endpoint === undefined || keypair === undefined) return super.send(packet, now);
    this.byItself++;
    const to = peer.endpoint;
    const datagram = seal(keypair, packet);
    return [{ kind: "send", to, datagram }, ...this.sealed(peer, keypair, datagram.length, now)];
  }

  override receive(datagram: Uint8Array, from: Endpoint, now: Millis): Effect[] {
    if (datagram[0] !== 4 || datagram.length < TRANSPORT_BYTES_MIN) return super.receive(datagram, from, now);
    const view = new DataView(datagram.buffer, datagram.byteOffset, datagram.length);
    const entry = this.entry(view.getUint32(4, true));
    if (entry?.keypair === undefined) return super.receive(datagram, from, now);
    this.byItself++;
    const { peer, keypair } = entry;
    const [low, high] = [view.getUint32(8, true), view.getUint32(12, true)];
    if (!keypair.canReceive(now, high, low)) {
      this.counters.sessionExpired++;
      return [];
    }
    const sealed = datagram.subarray(TRANSPORT_HEADER_BYTES);
    const plaintext = new Uint8Array(sealed.length);
    const length = nodeAead.open(keypair.receiveKey, counterOf(high, low), sealed, plaintext, 0);
    if (length < 0) {
      this.counters.forged++;
      return [];
    }
    if (!keypair.window.accept(high, low)) {
      this.counters.replayed++;
      return [];
    }
    const effects = this.opened({ peer, keypair }, datagram.length, length > 0, from, now);
    const inner = readIpPacket(plaintext.subarray(0, length));
    if (length === 0) return effects;
    if (inner === undefined) this.counters.innerMalformed++;
    else if (this.route(plaintext, inner.sourceAt, inner.family) !== peer) this.counters.sourceNotAllowed++;
    else effects.push({ kind: "deliver", packet: plaintext.subarray(0, inner.lengthBytes) });
    return effects;
  }
}

type Life = { readonly world: World; readonly left: Party; readonly right: Party };

function live(seed: number, weather: Weather, make?: ConstructorParameters<typeof World>[2]): Life {
  const world = make === undefined ? new World(seed, weather) : new World(seed, weather, make);
  return { world, ...pairIn(world) };
}

function assertEqualLives(one: Life, other: Life): void {
  const both = [one, other].map(({ world, left, right }) =>
    [left, right].map(({ device, delivered }) => ({
      peers: device.peers(world.now),
      deadline: device.deadline,
      counters: device.counters,
      delivered: delivered.length,
    })),
  );
  assert.deepEqual(both[0], both[1]);
}

for (const [seed, weather] of [
  [1, CALM],
  [2, { loss: 0.1, duplicates: 0.2, delayMs: [5, 2_000] }],
  [3, { loss: 0.3, duplicates: 0.2, delayMs: [5, 500] }],
] as const)
  test(`an engine of its own lives as the device does, for an hour and a half (seed ${seed})`, () => {
    const slow = live(seed, weather);
    const engines: EngineDevice[] = [];
    const fast = live(seed, weather, (parts) => {
      const device = new EngineDevice(parts);
      engines.push(device);
      return device;
    });
    const steps = [slow, fast].map(({ world, left, right }) => (i: number) => {
      const body = world.chance();
      if (body < 0.7) world.send(left, numbered("10.0.0.1", "10.0.0.2", i));
      if (body > 0.4) world.send(right, numbered("10.0.0.2", "10.0.0.1", i));
      // Not a peer's, and not an address that the peer may send from.
      if (body > 0.95) world.send(left, numbered("10.0.0.1", "192.0.2.77", i));
      if (body < 0.05) world.send(left, numbered("203.0.113.5", "10.0.0.2", i));
      world.run(body < 0.01 ? 400 * SECOND : body < 0.1 ? 20 * SECOND : 2 * SECOND);
    });
    for (let i = 0; i < 1_000; i++) {
      for (const step of steps) step(i);
      assertEqualLives(slow, fast);
    }
    assert.equal(slow.world.sent.length, fast.world.sent.length);
    for (const [i, { at, datagram }] of slow.world.sent.entries()) {
      assert.equal(at, fast.world.sent[i]?.at);
      assert.equal(toHex(datagram), toHex(fast.world.sent[i]?.datagram ?? new Uint8Array()));
    }
    assert(
      engines.every(({ byItself }) => byItself > 500),
      `${engines.map(({ byItself }) => byItself)}`,
    );
  });

for (const age of [0, 119_999, 120_000, 179_999])
  test(`many packets told at once, ${age} ms into the session, leave the device as many told one by one`, () => {
    const lives = [live(1, INSTANT), live(1, INSTANT)] as const;
    const packets = Array.from({ length: 20 }, (_, i) => numbered("10.0.0.1", "10.0.0.2", i));
    const [one, all] = lives;
    for (const { world, left } of lives) {
      world.send(left, numbered("10.0.0.1", "10.0.0.2", 99));
      world.run(0);
      world.passes = () => false;
      world.now += age;
    }
    for (const packet of packets) one.world.send(one.left, packet);

    const { device } = all.left;
    const peer = device.route(packets[0] ?? new Uint8Array(), 16, 4) ?? assert.fail("a peer");
    const keypair = peer.outlet(all.world.now) ?? assert.fail("a session");
    const datagrams = packets.map((packet) => seal(keypair, packet));
    const bytes = datagrams.reduce((sum, { length }) => sum + length, 0);
    const effects = device.sealed(peer, keypair, bytes, all.world.now);
    assert.equal(effects.length, age >= 120_000 ? 1 : 0, "a new handshake, once");
    assert.deepEqual(device.peers(all.world.now), one.left.device.peers(one.world.now));
    assert.equal(device.deadline, one.left.device.deadline);

    // And the other side: each by the device, or all by the engine.
    for (const datagram of datagrams) one.right.device.receive(datagram, one.left.endpoint, one.world.now);
    const entry = all.right.device.entry(keypair.remoteIndex);
    assert(entry?.keypair !== undefined);
    const session = { peer: entry.peer, keypair: entry.keypair };
    for (const datagram of datagrams)
      assert(session.keypair.window.accept(0, new DataView(datagram.buffer).getUint32(8, true)));
    all.right.device.opened(session, bytes, true, all.left.endpoint, all.world.now);
    assert.deepEqual(all.right.device.peers(all.world.now), one.right.device.peers(one.world.now));
    assert.equal(all.right.device.deadline, one.right.device.deadline);
  });
