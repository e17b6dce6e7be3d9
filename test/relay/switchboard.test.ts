import assert from "node:assert/strict";
import { test } from "node:test";
import { concat, utf8 } from "../../src/kit/bytes.js";
import { keyBytes } from "../../src/kit/key.js";
import { BODY_BYTES_MAX, encodeFrame, FRAME } from "../../src/wire/relay.js";
import { addressOf, datagramTo, verifiedOf, WALL } from "./relaylab.js";
import { Device, from, World } from "./switchboardworld.js";

/** What is forwarded, to whom, and what waits for slow readers. */
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
