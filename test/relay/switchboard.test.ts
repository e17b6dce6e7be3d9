import assert from "node:assert/strict";
import { test } from "node:test";
import { concat, utf8 } from "../../src/kit/bytes.js";
import { keyBytes, keyOf } from "../../src/kit/key.js";
import { MINUTE, SECOND } from "../../src/kit/time.js";
import { FrameReader, type FrameSink } from "../../src/relay/framereader.js";
import { RELAY_LIMITS, type RelayLimits } from "../../src/relay/limits.js";
import type { Member } from "../../src/relay/member.js";
import { Switchboard } from "../../src/relay/switchboard.js";
import { TURN_BUFFERS_KEPT, TurnMemory } from "../../src/relay/turnmemory.js";
import { ADMISSION_LIFETIME_MAX_MS, CLOCK_SKEW_MAX_MS } from "../../src/wire/admission.js";
import { BODY_BYTES_MAX, encodeFrame, FRAME } from "../../src/wire/relay.js";
import { addressOf, datagramTo, framesIn, type Heard, machineOf, numbered, verifiedOf, WALL } from "./relaylab.js";

/** The switchboard with devices by name; a device reads what it is sent at once, unless it is told not to. */
class World {
  now = 1_000;
  readonly cuts: string[] = [];
  readonly dialBacks: string[] = [];
  readonly board: Switchboard;
  readonly devices = new Map<Member, Device>();
  readonly memory = new TurnMemory(TURN_BUFFERS_KEPT);

  constructor(limits: Partial<RelayLimits> = {}) {
    this.board = new Switchboard({ ...RELAY_LIMITS, ...limits }, numbered(), this.memory, {
      cut: (member, reason) => void this.cuts.push(`${this.devices.get(member)?.name} ${reason}`),
      holdUntil: (member, at) => {
        const device = this.devices.get(member);
        if (device !== undefined) device.heldUntil = at;
      },
      dialBack: (member, port) => void this.dialBacks.push(`${this.devices.get(member)?.name} ${port}`),
    });
  }

  wall(): number {
    return WALL + this.now - 1_000;
  }

  join(name: string): Device {
    const device = new Device(name, this);
    const member = this.board.join(verifiedOf(name, { now: this.wall() }), device, this.now, this.wall());
    assert.ok(typeof member !== "string", String(member));
    device.member = member;
    this.devices.set(member, device);
    return device;
  }

  pass(ms: number): void {
    for (const end = this.now + ms; this.now < end; ) {
      this.now += SECOND;
      this.board.tick(this.now, this.wall());
      for (const device of this.devices.values()) device.answerPings();
    }
  }
}

class Device {
  readonly name: string;
  readonly #world: World;
  member: Member | undefined;
  reads = true;
  answers = true;
  heldUntil: number | undefined;
  /** Not copied: as to a socket, what it says is looked at when it is taken. */
  readonly #writes: (readonly Uint8Array[])[] = [];
  #read: Uint8Array[] = [];
  #reader: FrameReader | undefined;

  constructor(name: string, world: World) {
    this.name = name;
    this.#world = world;
  }

  write(parts: readonly Uint8Array[]): void {
    this.#writes.push(parts);
    if (this.reads) this.read();
  }

  pause(): void {}

  resume(): void {
    this.heldUntil = undefined;
  }

  /** Takes the write that is under way, and with it every one that follows. */
  read(): void {
    for (let write = this.#writes.shift(); write !== undefined; write = this.#writes.shift()) {
      this.#read.push(...write.map((part) => part.slice()));
      if (this.member !== undefined) this.#world.board.written(this.member, this.#world.now);
    }
  }

  say(...frames: Uint8Array[]): void {
    const { board, now } = this.#world;
    const member = this.member ?? assert.fail("not joined");
    const sink: FrameSink = {
      frame: (type, buffer, at, end) => board.frame(member, type, buffer, at, end, this.#world.now),
      flush: () => board.flush(member, this.#world.now),
      malformed: () => board.counters.malformed++,
      oversized: () => board.cut(member, "unreadable"),
    };
    this.#reader ??= new FrameReader(sink, this.#world.memory);
    const chunk = concat(...frames);
    this.#reader.push([chunk]);
    board.charge(member, chunk.length, now);
  }

  heard(): Heard[] {
    if (this.reads) this.read();
    return framesIn(concat(...this.#read.splice(0)));
  }

  answerPings(): void {
    if (!this.answers || !this.reads || this.member?.over) return;
    for (const { type, body } of this.heard()) if (type === FRAME.ping) this.say(encodeFrame(FRAME.pong, body));
  }
}

const from = (name: string, payload: string): Heard => ({
  type: FRAME.datagram,
  body: concat(keyBytes(addressOf(name)), utf8(payload)),
});

test("a datagram reaches the device it is addressed to, with the sender's key in its place, and nobody else", () => {
  const world = new World();
  const [home, laptop, phone] = [world.join("home"), world.join("laptop"), world.join("phone")];
  laptop.say(datagramTo("home", utf8("hello")));
  assert.deepEqual(home.heard(), [from("laptop", "hello")]);
  assert.deepEqual(phone.heard(), []);
  assert.deepEqual(laptop.heard(), []);
});

test("frames in a row for several devices arrive whole and in order, however the stream was cut", () => {
  const names = ["home", "home", "phone", "home", "phone", "phone", "home"];
  const stream = concat(...names.map((name, i) => datagramTo(name, utf8(`datagram ${i} ${"x".repeat(i * 37)}`))));
  const expected = (name: string) =>
    names.flatMap((one, i) => (one === name ? [from("laptop", `datagram ${i} ${"x".repeat(i * 37)}`)] : []));
  for (let size = 1; size <= stream.length; size += 1 + (size >> 3)) {
    const world = new World();
    const [home, phone, laptop] = [world.join("home"), world.join("phone"), world.join("laptop")];
    for (let at = 0; at < stream.length; at += size) laptop.say(stream.slice(at, at + size));
    assert.deepEqual(home.heard(), expected("home"), `in pieces of ${size}`);
    assert.deepEqual(phone.heard(), expected("phone"), `in pieces of ${size}`);
  }
});

test("a device of another network cannot be reached by its key", () => {
  const world = new World();
  const laptop = world.join("laptop");
  const stranger = new Device("stranger", world);
  const verified = { ...verifiedOf("stranger"), network: 1 };
  const member = world.board.join(verified, stranger, world.now, WALL);
  assert.ok(typeof member !== "string");
  laptop.say(datagramTo("stranger", utf8("hello")));
  assert.deepEqual(stranger.heard(), []);
  assert.equal(world.board.counters.unknownDestination, 1);
});

test("who sends to a key that is not here is told so, a few times", () => {
  const world = new World();
  const laptop = world.join("laptop");
  for (let i = 0; i < 100; i++) laptop.say(datagramTo("home", utf8("hello")));
  const told = laptop.heard();
  assert.ok(told.length >= 1 && told.length <= 10, `${told.length} notes`);
  assert.deepEqual(told[0], { type: FRAME.gone, body: keyBytes(addressOf("home")) });
  assert.equal(world.board.counters.unknownDestination, 100);
});

test("of two connections of one device, the one that sent last gets the answers", () => {
  const world = new World();
  const home = world.join("home");
  const [old, recent] = [world.join("laptop"), world.join("laptop")];
  home.say(datagramTo("laptop", utf8("one")));
  assert.deepEqual([old.heard().length, recent.heard().length], [0, 1]);
  old.say(datagramTo("home", utf8("I am here")));
  home.say(datagramTo("laptop", utf8("two")));
  assert.deepEqual([old.heard().length, recent.heard().length], [1, 0]);
  world.board.leave(old.member ?? assert.fail());
  home.say(datagramTo("laptop", utf8("three")));
  assert.deepEqual([old.heard().length, recent.heard().length], [0, 1]);
});

test("a fifth connection of one device ends the oldest", () => {
  const world = new World();
  for (let i = 0; i < 5; i++) world.join("laptop");
  assert.deepEqual(world.cuts, ["laptop full"]);
  assert.equal(world.board.members.size, 4);
});

test("a full relay refuses, and forgets nobody", () => {
  const world = new World({ membersMax: 2 });
  world.join("home");
  world.join("laptop");
  const refused = world.board.join(verifiedOf("phone"), new Device("phone", world), world.now, WALL);
  assert.equal(refused, "full");
});

test("for a reader that has stopped the oldest datagrams are dropped, the newest kept, and memory stays bounded", () => {
  const world = new World({ dataBytesMax: 10_000 });
  const [home, laptop] = [world.join("home"), world.join("laptop")];
  home.reads = false;
  for (let i = 0; i < 5_000; i++) {
    laptop.say(datagramTo("home", utf8(`datagram ${i}`.padEnd(100))));
    assert.ok(world.board.queuedBytes <= 10_000 + 4_096);
  }
  home.reads = true;
  const heard = home.heard().map(({ body }) => String.fromCharCode(...body.subarray(32)).trim());
  assert.equal(heard[0], "datagram 0", "what was on its way when it stopped");
  assert.equal(heard.at(-1), "datagram 4999");
  assert.equal(heard.length + world.board.counters.dropped.data, 5_000);
  const kept = heard.slice(1).map((text) => Number(text.slice(9)));
  assert.deepEqual(
    kept,
    [...kept].sort((left, right) => left - right),
  );
});

test("a full data queue delays and drops no probe", () => {
  const world = new World({ dataBytesMax: 10_000 });
  const [home, laptop] = [world.join("home"), world.join("laptop")];
  home.reads = false;
  for (let i = 0; i < 500; i++) laptop.say(datagramTo("home", new Uint8Array(1_000)));
  laptop.say(datagramTo("home", utf8("probe"), FRAME.probe));
  home.reads = true;
  const [, second] = home.heard();
  assert.deepEqual(second?.type, FRAME.probe);
  assert.equal(world.board.counters.dropped.probe, 0);
});

test("who does not take a write for 10 s is cut; who reads slowly, but reads, is not", () => {
  const world = new World();
  const [home, nas, laptop] = [world.join("home"), world.join("nas"), world.join("laptop")];
  home.reads = false;
  nas.reads = false;
  for (let i = 0; i < 9; i++) {
    laptop.say(datagramTo("home", new Uint8Array(1_000)), datagramTo("nas", new Uint8Array(1_000)));
    world.pass(SECOND);
    nas.read();
  }
  assert.deepEqual(world.cuts, []);
  world.pass(SECOND);
  assert.deepEqual(world.cuts, ["home too-slow"]);
});

test("who never answers a ping is cut after a minute, with or without traffic; who answers stays while admitted", () => {
  const world = new World();
  const [mute, laptop] = [world.join("mute"), world.join("laptop")];
  mute.answers = false;
  for (let i = 0; i < 59; i++) {
    mute.say(datagramTo("laptop", utf8("I speak")));
    world.pass(SECOND);
  }
  assert.deepEqual(world.cuts, []);
  world.pass(2 * SECOND);
  assert.deepEqual(world.cuts, ["mute too-slow"]);
  assert.ok(!laptop.member?.over);
});

test("a device is cut when its admission runs out, and a renewal moves that moment", () => {
  const world = new World();
  const [laptop, phone] = [world.join("laptop"), world.join("phone")];
  world.pass(4 * MINUTE);
  const renewed = verifiedOf("phone", { now: world.wall() });
  assert.equal(world.board.renew(phone.member ?? assert.fail(), renewed, world.now, world.wall()), undefined);
  assert.equal(
    world.board.renew(phone.member ?? assert.fail(), verifiedOf("laptop"), world.now, WALL),
    "admission-of-another",
  );
  world.pass(MINUTE);
  assert.deepEqual(world.cuts, ["laptop admission-expired"]);
  world.pass(4 * MINUTE);
  assert.deepEqual(world.cuts, ["laptop admission-expired", "phone admission-expired"]);
  assert.ok(laptop.member?.over);
});

for (const which of ["machine", "tunnel"] as const)
  test(`a device revoked by its ${which} key is out at once, and its admission of before opens nothing`, () => {
    const world = new World();
    const [home, laptop, again] = [world.join("home"), world.join("laptop"), world.join("laptop")];
    const key = which === "machine" ? keyOf(machineOf("laptop").publicKey) : addressOf("laptop");
    assert.equal(world.board.revoke(key, world.wall()), 2);
    assert.deepEqual(world.cuts, ["laptop revoked", "laptop revoked"]);
    home.say(datagramTo("laptop", utf8("hello")));
    assert.deepEqual([...laptop.heard(), ...again.heard()], []);
    const old = world.board.join(verifiedOf("laptop"), new Device("laptop", world), world.now, world.wall());
    assert.equal(old, "revoked");
    world.pass(2 * SECOND);
    world.join("laptop"); // approved anew: an admission of later
  });

test("revocations are forgotten when no admission of before can live, and never more than the bound are kept", () => {
  const world = new World({ revocationsMax: 2 });
  for (const name of ["a", "b", "c"]) world.board.revoke(addressOf(name), WALL);
  assert.deepEqual(
    ["a", "b", "c"].map((name) => world.board.isRevoked(verifiedOf(name).admission)),
    [false, true, true],
  );
  world.pass(ADMISSION_LIFETIME_MAX_MS + CLOCK_SKEW_MAX_MS + MINUTE);
  assert.equal(world.board.isRevoked(verifiedOf("c").admission), false);
});

test("a device gets its rate over ten seconds, not more, and nothing it sent is lost", () => {
  const world = new World({ bytesPerSecondMax: 1_000_000 });
  const [home, laptop] = [world.join("home"), world.join("laptop")];
  let sent = 0;
  for (let ms = 0; ms < 10_000; ms++) {
    world.now++;
    if (laptop.heldUntil !== undefined && world.now >= laptop.heldUntil)
      world.board.resume(laptop.member ?? assert.fail());
    if (laptop.heldUntil !== undefined) continue;
    laptop.say(...Array.from({ length: 12 }, () => datagramTo("home", new Uint8Array(1_312))));
    sent += 12 * 1_347;
  }
  assert.ok(sent > 9_500_000 && sent < 10_500_000, `${sent} bytes`);
  assert.equal(home.heard().length, sent / 1_347);
});

test("a ping comes back as it was, a wrong pong counts for nothing", () => {
  const world = new World();
  const laptop = world.join("laptop");
  laptop.say(encodeFrame(FRAME.ping, utf8("12345678")));
  assert.deepEqual(laptop.heard(), [{ type: FRAME.pong, body: utf8("12345678") }]);
  laptop.answers = false;
  for (let i = 0; i < 62; i++) {
    laptop.say(encodeFrame(FRAME.pong, utf8("12345678")));
    world.pass(SECOND);
  }
  assert.deepEqual(world.cuts, ["laptop too-slow"]);
});

test("a mapping is tried on request, three times in a burst", () => {
  const world = new World();
  const laptop = world.join("laptop");
  for (let i = 0; i < 10; i++) laptop.say(encodeFrame(FRAME.dialBack, Uint8Array.of(0xca, 0x6c), new Uint8Array(16)));
  assert.deepEqual(
    world.dialBacks,
    Array.from({ length: 3 }, () => "laptop 51820"),
  );
  laptop.say(encodeFrame(FRAME.dialBack, Uint8Array.of(0, 0), new Uint8Array(16)));
  assert.equal(world.board.counters.malformed, 1);
});

test("a frame of a wrong length or an unknown type is counted and passed over, the next one is read", () => {
  const world = new World();
  const [home, laptop] = [world.join("home"), world.join("laptop")];
  laptop.say(
    encodeFrame(FRAME.datagram, new Uint8Array(32)),
    encodeFrame(0x77, utf8("of the future")),
    encodeFrame(FRAME.ping, utf8("short")),
    encodeFrame(FRAME.welcome, new Uint8Array(30)),
    datagramTo("home", utf8("hello")),
  );
  assert.deepEqual(home.heard(), [from("laptop", "hello")]);
  assert.equal(world.board.counters.malformed, 4);
});

test("a length beyond the bound ends the connection before anything is kept for it", () => {
  const world = new World();
  const laptop = world.join("laptop");
  laptop.say(Uint8Array.of(FRAME.datagram, (BODY_BYTES_MAX + 1) >> 8, (BODY_BYTES_MAX + 1) & 0xff));
  assert.deepEqual(world.cuts, ["laptop unreadable"]);
});
