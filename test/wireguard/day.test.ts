import assert from "node:assert/strict";
import { test } from "node:test";
import { parseEndpoint } from "../../src/kit/endpoint.js";
import { HOUR, MINUTE, type Millis, SECOND } from "../../src/kit/time.js";
import { ZERO_AFTER_MS } from "../../src/wireguard/constants.js";
import { type Party, packet, pairIn, peerOf, World } from "./world.js";

/**
 * A laptop and its exit node through a simulated day: hours of nothing, page loads, a download, no network, a walk
 * through one network after the other, both calling at once. The network loses, doubles, delays and reorders.
 */
const WEATHER = { loss: 0.03, duplicates: 0.1, delayMs: [5, 400] as const };
const BODY_BYTES = 64;
const INDICES_MAX = 4;

class Day {
  readonly world: World;
  readonly laptop: Party;
  readonly exit: Party;
  sent = 0;
  arrived = 0;
  /** Packets under way, by the number they carry. */
  readonly #flying = new Map<number, Uint8Array>();

  constructor(seed: number) {
    this.world = new World(seed, WEATHER);
    const { left, right } = pairIn(this.world);
    this.laptop = left;
    this.exit = right;
  }

  /** One packet; its body says its number, over and over. */
  say(from: Party): void {
    const number = ++this.sent;
    const body = new Uint8Array(BODY_BYTES).map((_, i) => number >> (8 * (i % 4)));
    const [own, other] = from === this.laptop ? ["10.0.0.1", "10.0.0.2"] : ["10.0.0.2", "10.0.0.1"];
    const bytes = packet(own ?? "", other ?? "", body);
    this.#flying.set(number, bytes);
    this.world.send(from, bytes);
  }

  /** Lets time pass, and looks at what arrived meanwhile: each packet as it was sent, and once. */
  pass(duration: Millis): void {
    this.world.run(duration);
    for (const party of [this.laptop, this.exit])
      for (const bytes of party.delivered.splice(0)) {
        const number = new DataView(bytes.buffer, bytes.byteOffset).getUint32(20, true);
        assert.deepEqual(bytes, this.#flying.get(number), `packet ${number} arrives once and unchanged`);
        this.#flying.delete(number);
        this.arrived++;
      }
    for (const { device } of [this.laptop, this.exit]) {
      assert((device.deadline ?? Infinity) > this.world.now, "nothing is overdue");
      assert(this.world.indicesOf(device) <= INDICES_MAX, "three sessions and a handshake");
    }
  }

  /** What an hour of the day is like. */
  hour(hour: number): void {
    const { world, laptop, exit } = this;
    const until = world.now + HOUR;
    switch (hour % 6) {
      case 1: // pages: a request, a burst back, and then somebody reads
        for (let page = 0; page < 12; page++) {
          this.say(laptop);
          this.pass(600);
          for (let i = 0; i < 15; i++) this.say(exit);
          this.pass(world.chance() * 8 * MINUTE);
        }
        break;
      case 2: // a download of ten minutes, acknowledged now and then
        for (let second = 0; second < 10 * 60; second++) {
          this.say(exit);
          if (second % 5 === 0) this.say(laptop);
          this.pass(SECOND);
        }
        break;
      case 3: // no network, and somebody who keeps trying
        world.passes = () => false;
        for (let i = 0; i < 6; i++) {
          this.say(laptop);
          this.pass(10 * MINUTE);
        }
        world.passes = () => true;
        break;
      case 4: // a walk: another network every few minutes
        for (let step = 0; step < 10; step++) {
          laptop.endpoint = parseEndpoint(`203.0.113.${hour + step}:${1024 + step}`);
          for (let i = 0; i < 30; i++) {
            this.say(i % 2 === 0 ? laptop : exit);
            this.pass(4 * SECOND);
          }
        }
        break;
      case 5: // both call at once, and a keepalive holds the mapping for half an hour
        world.configure(laptop, [peerOf(exit, ["10.0.0.2/32"], { persistentKeepaliveSeconds: 25 })]);
        for (let i = 0; i < 3; i++) {
          this.say(laptop);
          this.say(exit);
          this.pass(10 * MINUTE);
        }
        world.configure(laptop, [peerOf(exit, ["10.0.0.2/32"])]);
        break;
      default:
        break;
    }
    this.pass(Math.max(0, until - world.now));
  }
}

for (const seed of [1, 2])
  test(`a day in bad weather: nothing arrives twice or altered, nothing piles up (seed ${seed})`, (t) => {
    const before = process.cpuUsage();
    const day = new Day(seed);
    const { world, laptop, exit } = day;
    for (let hour = 0; hour < 24; hour++) day.hour(hour);
    assert(world.now >= 24 * HOUR);
    const { user, system } = process.cpuUsage(before);
    t.diagnostic(
      `${Math.round((user + system) / 1_000)} ms of CPU for ${world.events} events, ${world.sent.length} datagrams`,
    );

    // 24 packets were said without a network, and the weather took its share of the others.
    assert(day.arrived / day.sent > 1 - WEATHER.loss - 0.02, `${day.arrived} of ${day.sent} arrived`);
    assert(world.events < 40_000, `${world.events} events`);
    // A quarter of the datagrams at most is not a packet: handshakes and keepalives.
    const packets = world.sent.filter(({ datagram }) => datagram[0] === 4 && datagram.length > 32).length;
    assert(world.sent.length - packets < world.sent.length / 4, `${packets} packets of ${world.sent.length} datagrams`);
    // Two sides, an idle and a half of every two minutes: a handshake is not made more often than REKEY_AFTER_MS asks.
    const initiations = world.sent.filter(({ datagram }) => datagram[0] === 1).length;
    assert(initiations < 24 * 30, `${initiations} initiations`);
    for (const { device } of [laptop, exit]) {
      const { forged, malformed, handshakesInvalid, sourceNotAllowed, peerUnknown, replayed } = device.counters;
      assert.deepEqual(
        { forged, malformed, handshakesInvalid, sourceNotAllowed, peerUnknown },
        { forged: 0, malformed: 0, handshakesInvalid: 0, sourceNotAllowed: 0, peerUnknown: 0 },
      );
      assert(replayed > 100, "the doubled ones were noticed");
    }

    day.pass(ZERO_AFTER_MS + MINUTE);
    for (const { device } of [laptop, exit]) {
      assert.equal(world.indicesOf(device), 0, "no session is left");
      assert.equal(device.deadline, undefined, "and no timer");
    }
  });
