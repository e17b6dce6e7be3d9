import assert from "node:assert/strict";
import { test } from "node:test";
import { toHex } from "../../src/kit/bytes.js";
import { type KeyPair, keyPairOf } from "../../src/kit/crypto.js";
import { type Endpoint, parseEndpoint } from "../../src/kit/endpoint.js";
import { type Cidr, parseIp } from "../../src/kit/ip.js";
import { keyOf } from "../../src/kit/key.js";
import { MINUTE, SECOND } from "../../src/kit/time.js";
import { HANDSHAKES_BEFORE_LOAD, KEEPALIVE_TIMEOUT_MS } from "../../src/wireguard/constants.js";
import { CookieJar } from "../../src/wireguard/cookie.js";
import { Device, type Effect } from "../../src/wireguard/device.js";
import { SlowTwin } from "./slowtwin.js";
import { bytesOf, chanceByLength, chanceOf, packet } from "./world.js";

/**
 * src/wireguard against slowtwin.ts: two of each, the same keys and the same chance. Whatever the device sends, its
 * twin must send too; whatever a twin sends, the device must take as the other device's.
 */
const SEEDS = 40;
const PACKETS = 24;
const EMPTY = new Uint8Array(0);

type Side = {
  readonly device: Device;
  readonly twin: SlowTwin;
  readonly pair: KeyPair;
  readonly endpoint: Endpoint;
  readonly address: string;
};

class Quartet {
  now = 0;
  readonly chance: () => number;
  readonly left: Side;
  readonly right: Side;

  constructor(seed: number) {
    this.chance = chanceOf(seed);
    const random = bytesOf(this.chance);
    const [left, right] = [keyPairOf(random(32)), keyPairOf(random(32))];
    const presharedKey = seed % 2 === 0 ? new Uint8Array(32) : random(32);
    this.left = this.#side(2 * seed, left, right, presharedKey, "192.0.2.1:51820", "10.0.0.1");
    this.right = this.#side(2 * seed + 1, right, left, presharedKey, "[2001:db8::2]:443", "10.0.0.2");
    for (const [side, other] of [
      [this.left, this.right],
      [this.right, this.left],
    ] as const) {
      const peer = {
        publicKey: keyOf(other.pair.publicKey),
        endpoint: other.endpoint,
        allowedIps: [`${parseIp(other.address)}/32` as Cidr],
        persistentKeepaliveSeconds: 0,
        ...(seed % 2 === 0 ? {} : { presharedKey: keyOf(presharedKey) }),
      };
      side.device.configure({ privateKey: keyOf(side.pair.privateKey), peers: [peer] }, this.now);
    }
  }

  #side(seed: number, own: KeyPair, peer: KeyPair, presharedKey: Uint8Array, at: string, address: string): Side {
    const wallMs = (): number => 1_700_000_000_000 + this.now;
    const twin = new SlowTwin({
      staticPrivate: own.privateKey,
      peerPublic: peer.publicKey,
      presharedKey,
      random: chanceByLength(seed),
      wallMs,
    });
    const device = new Device({ random: chanceByLength(seed), wallMs });
    return { device, twin, pair: own, endpoint: parseEndpoint(at), address };
  }

  /** A packet makes a handshake and follows it, message for message the same on both planes. */
  connect(from: Side, to: Side): void {
    const first = this.packet(from, to);
    const initiation = same(from.device.send(first, this.now), from.twin.initiate());
    const response = this.#answered(to, initiation, from);
    assert.equal(from.twin.receive(response, to.endpoint).kind, "connected");
    const transport = same(from.device.receive(response, to.endpoint, this.now), from.twin.send(first));
    this.deliver(to, transport, from, first);
  }

  #answered(to: Side, datagram: Uint8Array, from: Side): Uint8Array {
    const answer = to.twin.receive(datagram, from.endpoint);
    assert(answer.kind === "answer", answer.kind);
    return same(to.device.receive(datagram, from.endpoint, this.now), answer.datagram);
  }

  /** Junk with a right mac1, until strangers must show a cookie. */
  load(victim: Side): void {
    const jar = new CookieJar(victim.pair.publicKey);
    for (let i = 0; i < HANDSHAKES_BEFORE_LOAD; i++) {
      const junk = new Uint8Array(148);
      junk[0] = 1;
      jar.sign(junk, this.now);
      assert.deepEqual(victim.device.receive(junk, parseEndpoint("203.0.113.9:9"), this.now), []);
    }
    victim.twin.underLoad = true;
  }

  /** Under load: refused with a cookie, and the retry carries it. */
  connectByCookie(from: Side, to: Side): void {
    const waiting = this.packet(from, to);
    const initiation = same(from.device.send(waiting, this.now), from.twin.initiate());
    const cookie = this.#answered(to, initiation, from);
    assert.equal(cookie[0], 3);
    assert.deepEqual(from.device.receive(cookie, to.endpoint, this.now), []);
    assert.equal(from.twin.receive(cookie, to.endpoint).kind, "cookie taken");
    const deadline = from.device.deadline ?? assert.fail("a retry is due");
    this.now = deadline;
    this.load(to);
    const retry = same(from.device.tick(this.now), from.twin.initiate());
    assert(
      retry.subarray(-16).some((byte) => byte !== 0),
      "the retry has a mac2",
    );
    const response = this.#answered(to, retry, from);
    // The other side is not under load; its mac2 is nobody's business.
    assert.equal(from.twin.receive(response, to.endpoint).kind, "connected");
    const transport = same(from.device.receive(response, to.endpoint, this.now), from.twin.send(waiting));
    this.deliver(to, transport, from, waiting);
  }

  /** Packets both ways, late, out of order and twice. */
  talk(): void {
    const flying: { from: Side; to: Side; datagram: Uint8Array; content: Uint8Array }[] = [];
    const sendOne = (): void => {
      const [from, to] = this.chance() < 0.5 ? [this.left, this.right] : [this.right, this.left];
      const content = this.packet(from, to);
      flying.push({ from, to, content, datagram: same(from.device.send(content, this.now), from.twin.send(content)) });
    };
    for (let i = 0; i < PACKETS; i++) sendOne();
    while (flying.length > 0) {
      const [one] = flying.splice(Math.floor(this.chance() * flying.length), 1);
      if (one === undefined) break;
      this.deliver(one.to, one.datagram, one.from, one.content);
      if (this.chance() < 0.3) this.deliver(one.to, one.datagram, one.from, undefined);
      const at = Math.floor(this.chance() * one.datagram.length);
      const altered = one.datagram.with(at, (one.datagram[at] ?? 0) ^ (1 << Math.floor(this.chance() * 8)));
      this.deliver(one.to, altered, one.from, undefined);
    }
  }

  /** §6.5: whoever only received says so after ten seconds, and nobody says more. */
  settle(): void {
    this.now += KEEPALIVE_TIMEOUT_MS;
    for (const [from, to] of [
      [this.left, this.right],
      [this.right, this.left],
    ] as const) {
      const effects = from.device.tick(this.now);
      if (effects.length === 0) continue;
      const keepalive = same(effects, from.twin.send(EMPTY));
      assert.deepEqual(to.device.receive(keepalive, from.endpoint, this.now), []);
      assert.deepEqual(to.twin.receive(keepalive, from.endpoint), { kind: "packet", packet: EMPTY });
    }
  }

  /** `content` undefined: refused by both. */
  deliver(to: Side, datagram: Uint8Array, from: Side, content: Uint8Array | undefined): void {
    const slow = to.twin.receive(datagram, from.endpoint);
    const fast = to.device.receive(datagram, from.endpoint, this.now);
    assert.deepEqual(fast, content === undefined ? [] : [{ kind: "deliver", packet: content }]);
    assert.deepEqual(slow, content === undefined ? { kind: "refused" } : { kind: "packet", packet: content });
  }

  packet(from: Side, to: Side): Uint8Array {
    return packet(from.address, to.address, bytesOf(this.chance)(Math.floor(this.chance() * 1400)));
  }
}

function same(effects: readonly Effect[], expected: Uint8Array): Uint8Array {
  const [effect] = effects;
  assert(effects.length === 1 && effect?.kind === "send", `one datagram, not ${effects.length}`);
  assert.equal(toHex(effect.datagram), toHex(expected));
  return effect.datagram;
}

test(`the device and its slow twin send the same bytes and take each other's, ${SEEDS} conversations`, () => {
  for (let seed = 1; seed <= SEEDS; seed++) {
    const quartet = new Quartet(seed);
    const { left, right } = quartet;
    quartet.connect(left, right);
    quartet.talk();
    quartet.settle();
    // The session is over for the device; the other side begins the next.
    quartet.now += 3 * MINUTE;
    quartet.connect(right, left);
    quartet.talk();
    quartet.settle();
    if (seed % 4 !== 0) continue;
    quartet.now += 3 * MINUTE;
    quartet.load(right);
    quartet.connectByCookie(left, right);
    quartet.now += 2 * SECOND;
    right.twin.underLoad = false;
    quartet.talk();
  }
});
