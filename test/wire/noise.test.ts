import assert from "node:assert/strict";
import { test } from "node:test";
import { fromHex, toHex, utf8 } from "../../src/kit/bytes.js";
import { hash, type KeyPair, keyPairOf } from "../../src/kit/crypto.js";
import {
  INITIATION_BYTES,
  initiate,
  REKEY_MESSAGES,
  REPLY_BYTES,
  respond,
  type Transport,
} from "../../src/wire/noise.js";
import { SlowParty, slowSeal } from "./slownoise.js";

const PROLOGUE = utf8("a prologue");
const bytes = (hex: string): Uint8Array => fromHex(hex) ?? assert.fail(`not hex: ${hex}`);
const keyFrom = (word: string): KeyPair => keyPairOf(hash(utf8(word)));
const device = keyFrom("device");
const coordinator = keyFrom("coordinator");

// The vector of the cacophony collection for this very protocol.
const VECTOR = {
  prologue: "4a6f686e2047616c74",
  initiator: {
    s: "e61ef9919cde45dd5f82166404bd08e38bceb5dfdfded0a34c8df7ed542214d1",
    e: "893e28b9dc6ca8d611ab664754b8ceb7bac5117349a4439a6b0569da977c464a",
  },
  responderPublic: "31e0303fd6418d2f8c0e78b91f22e8caed0fbe48656dcf4767e4834f701b8f62",
  responder: {
    s: "4a3acbfdb163dec651dfa3194dece676d437029c62a408b4c5ea9114246e4893",
    e: "bbdb4cdbd309f1a1f2e1456967fe288cadd6f712d65dc7b7793d5e63da6b375b",
  },
  messages: [
    [
      "4c756477696720766f6e204d69736573",
      "ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c79440b03ddc7aac5123d06a1b23b71670e32e76c28239a7ca4ac8f784de7e44c1adbfc6e83fef7352a58d9d56157400c0a737b1d171ce368229c7b752ac25b8faf4eca690f6d896f543be02c996ab2b86b76",
    ],
    [
      "4d757272617920526f746862617264",
      "95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f144808843d9b5a8927f0ac9655ef76833bc7e5561f42e691ac8404efd6fbd6308b6a27c",
    ],
    ["462e20412e20486179656b", "2c256ed08fcd08c2980f954ee4beaccb61c9581340f5dd2fd1cf3b"],
    ["4361726c204d656e676572", "d6033f70eee20945c7c9dba304e397ee3b284ff5e00fd9efb095d3"],
  ],
} as const;

test("the slow twin makes the published vector, byte for byte", () => {
  const { initiator, responder, prologue, responderPublic, messages } = VECTOR;
  const left = new SlowParty(
    "initiator",
    bytes(initiator.s),
    bytes(initiator.e),
    bytes(prologue),
    bytes(responderPublic),
  );
  const right = new SlowParty("responder", bytes(responder.s), bytes(responder.e), bytes(prologue));
  const [first, reply, third, fourth] = messages;
  assert.equal(toHex(left.write(bytes(first[0]))), first[1]);
  assert.equal(toHex(right.read(bytes(first[1]))), first[0]);
  assert.equal(toHex(right.write(bytes(reply[0]))), reply[1]);
  assert.equal(toHex(left.read(bytes(reply[1]))), reply[0]);
  const [toResponder, toInitiator] = left.split();
  assert.equal(toHex(slowSeal(toResponder, 0n, bytes(third[0]))), third[1]);
  assert.equal(toHex(slowSeal(toInitiator, 0n, bytes(fourth[0]))), fourth[1]);
});

test("both roles write what the slow twin writes, in the handshake and after", () => {
  for (let n = 0; n < 20; n++) {
    const [e, f] = [keyFrom(`e${n}`), keyFrom(`f${n}`)];
    const left = new SlowParty("initiator", device.privateKey, e.privateKey, PROLOGUE, coordinator.publicKey);
    const right = new SlowParty("responder", coordinator.privateKey, f.privateKey, PROLOGUE);
    const started = start(e);
    assert.equal(toHex(started.message), toHex(left.write(new Uint8Array(0))));
    right.read(started.message);
    const answered = answer(started.message, f);
    assert.equal(toHex(answered.reply), toHex(right.write(new Uint8Array(0))));
    assert.deepEqual(answered.remotePublic, device.publicKey);
    const transport = started.finish(answered.reply) ?? assert.fail("the reply is genuine");
    left.read(answered.reply);
    const [toResponder, toInitiator] = left.split();
    assert.equal(toHex(transport.seal(utf8("up"))), toHex(slowSeal(toResponder, 0n, utf8("up"))));
    assert.equal(toHex(answered.transport.seal(utf8("down"))), toHex(slowSeal(toInitiator, 0n, utf8("down"))));
  }
});

test("messages have the lengths that the header promises", () => {
  const started = start();
  assert.equal(started.message.length, INITIATION_BYTES);
  assert.equal(answer(started.message).reply.length, REPLY_BYTES);
});

test("an initiation with any one byte altered is not answered", () => {
  const { message } = start();
  for (let i = 0; i < message.length; i++) {
    const altered = Uint8Array.from(message);
    altered[i] = (altered[i] ?? 0) ^ 1;
    assert.equal(tryAnswer(altered), undefined, `byte ${i}`);
  }
  assert.equal(tryAnswer(message.subarray(1)), undefined);
  assert.equal(tryAnswer(new Uint8Array(0)), undefined);
});

test("a reply with any one byte altered opens no session, and the genuine one still does", () => {
  const started = start();
  const { reply } = answer(started.message);
  for (let i = 0; i < reply.length; i++) {
    const altered = Uint8Array.from(reply);
    altered[i] = (altered[i] ?? 0) ^ 1;
    assert.equal(started.finish(altered), undefined, `byte ${i}`);
  }
  assert.notEqual(started.finish(reply), undefined);
});

test("another prologue, or another coordinator's key, is not answered", () => {
  const ephemeral = keyFrom("e");
  const { message } = initiate({
    local: device,
    remotePublic: coordinator.publicKey,
    prologue: utf8("other"),
    ephemeral,
  });
  assert.equal(tryAnswer(message), undefined);
  assert.equal(tryAnswer(start().message, keyFrom("f"), keyFrom("another coordinator")), undefined);
});

// RFC 7748 §6.1 and the known points whose order divides 8: the shared secret would be zero for everybody.
const LOW_ORDER = [
  "0000000000000000000000000000000000000000000000000000000000000000",
  "0100000000000000000000000000000000000000000000000000000000000000",
  "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
  "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
  "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
  "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
  "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
];

test("keys of low order are refused in every place they can stand", () => {
  for (const hex of LOW_ORDER) {
    const low = bytes(hex);
    assert.throws(
      () => initiate({ local: device, remotePublic: low, prologue: PROLOGUE, ephemeral: keyFrom("e") }),
      { code: "key-invalid" },
      "as the coordinator's key",
    );
    const started = start();
    const first = Uint8Array.from(started.message);
    first.set(low);
    assert.equal(tryAnswer(first), undefined, "as the initiator's ephemeral key");
    const second = Uint8Array.from(answer(started.message).reply);
    second.set(low);
    assert.equal(started.finish(second), undefined, "as the responder's ephemeral key");
    // The initiator's static key arrives encrypted: only an initiator can put a low one there, as here.
    const liar = { privateKey: device.privateKey, publicKey: low };
    const lie = initiate({
      local: liar,
      remotePublic: coordinator.publicKey,
      prologue: PROLOGUE,
      ephemeral: keyFrom("e"),
    });
    assert.equal(tryAnswer(lie.message), undefined, "as the initiator's static key");
  }
});

test("an altered, repeated, skipped or reflected message ends the session's receiving side", () => {
  for (const spoil of [
    (first: Uint8Array) => first.map((byte, i) => (i === 3 ? byte ^ 0x80 : byte)),
    (first: Uint8Array) => first.subarray(0, -1),
    (_: Uint8Array, second: Uint8Array) => second,
    () => new Uint8Array(0),
  ]) {
    const [left, right] = session();
    const [first, second] = [left.seal(utf8("one")), left.seal(utf8("two"))];
    assert.equal(right.open(spoil(first, second)), undefined);
    assert.equal(right.open(first), undefined, "even the genuine message, after that");
  }
  const [left, right] = session();
  const message = left.seal(utf8("one"));
  assert.deepEqual(right.open(message), utf8("one"));
  assert.equal(right.open(message), undefined);
  assert.equal(left.open(message), undefined);
});

test("both ends turn their keys together, and go on", () => {
  const [left, right] = session();
  const plaintext = utf8("x");
  for (let n = 0n; n < REKEY_MESSAGES + 2n; n++) {
    const opened = right.open(left.seal(plaintext));
    if (opened === undefined) assert.fail(`message ${n} does not open`);
  }
});

function start(ephemeral = keyFrom("e")) {
  return initiate({ local: device, remotePublic: coordinator.publicKey, prologue: PROLOGUE, ephemeral });
}

function tryAnswer(message: Uint8Array, ephemeral = keyFrom("f"), local = coordinator) {
  return respond({ local, prologue: PROLOGUE, ephemeral, message });
}

function answer(message: Uint8Array, ephemeral = keyFrom("f")) {
  return tryAnswer(message, ephemeral) ?? assert.fail("the initiation is genuine");
}

function session(): [Transport, Transport] {
  const started = start();
  const { reply, transport } = answer(started.message);
  return [started.finish(reply) ?? assert.fail("the reply is genuine"), transport];
}
