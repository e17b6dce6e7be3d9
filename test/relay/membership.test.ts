import assert from "node:assert/strict";
import { test } from "node:test";
import { utf8 } from "../../src/kit/bytes.js";
import { keyOf } from "../../src/kit/key.js";
import { MINUTE, SECOND } from "../../src/kit/time.js";
import { ADMISSION_LIFETIME_MAX_MS, CLOCK_SKEW_MAX_MS } from "../../src/wire/admission.js";
import { encodeFrame, FRAME } from "../../src/wire/relay.js";
import { addressOf, datagramTo, machineOf, verifiedOf, WALL } from "./relaylab.js";
import { Device, World } from "./switchboardworld.js";

/** Who is let in, at what rate, and who is cut. */
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
