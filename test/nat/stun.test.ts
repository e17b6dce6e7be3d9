import assert from "node:assert/strict";
import { test } from "node:test";
import { fromHex, toHex } from "../../src/kit/bytes.js";
import { parseEndpoint, tryEndpoint } from "../../src/kit/endpoint.js";
import {
  decodeStunAnswer,
  decodeStunRequest,
  encodeStunRequest,
  encodeStunResponse,
  type StunRequest,
} from "../../src/nat/stun.js";
import { decodeFrame, encodeFrame } from "../../src/nat/stunmessage.js";
import { Internet } from "./internet.js";

const bytes = (hex: string): Uint8Array => fromHex(hex.replaceAll(/\s/g, "")) ?? assert.fail(`not hex: ${hex}`);
const TRANSACTION = bytes("b7e7a701bc34d686fa87dfae");

// RFC 5769 §2.1 to §2.3; their fingerprints are right or decodeFrame refuses them.
const REQUEST = bytes(`0001 0058 2112a442 b7e7a701bc34d686fa87dfae
  8022 0010 5354554e207465737420636c69656e74
  0024 0004 6e0001ff
  8029 0008 932ff9b151263b36
  0006 0009 6576746a3a68367659 202020
  0008 0014 9aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a2
  8028 0004 e57a3bcf`);
const RESPONSE_4 = bytes(`0101 003c 2112a442 b7e7a701bc34d686fa87dfae
  8022 000b 7465737420766563746f72 20
  0020 0008 0001 a147 e112a643
  0008 0014 2b91f599fd9e90c38c7489f92af9ba53f06be7d7
  8028 0004 c07d4c96`);
const RESPONSE_6 = bytes(`0101 0048 2112a442 b7e7a701bc34d686fa87dfae
  8022 000b 7465737420766563746f72 20
  0020 0014 0002 a147 0113a9faa5d3f179bc25f4b5bed2b9d9
  0008 0014 a382954e4be67bf11784c97c8292c275bfe3ed41
  8028 0004 c8fb0b4c`);

test("RFC 5769 §2.1: the sample request is read, and its PRIORITY is what we do not understand", () => {
  const request = decodeStunRequest(REQUEST);
  assert.deepEqual(request, { transaction: TRANSACTION, software: "STUN test client", unknown: [0x0024] });
});

test("RFC 5769 §2.2: the sample IPv4 response says 192.0.2.1 port 32853", () => {
  const mapped = parseEndpoint("192.0.2.1:32853");
  const answer = { kind: "success", transaction: TRANSACTION, mapped, software: "test vector" } as const;
  assert.deepEqual(decodeStunAnswer(RESPONSE_4), answer);
});

test("RFC 5769 §2.3: the sample IPv6 response says 2001:db8:1234:5678:11:2233:4455:6677 port 32853", () => {
  const mapped = parseEndpoint("[2001:db8:1234:5678:11:2233:4455:6677]:32853");
  const answer = { kind: "success", transaction: TRANSACTION, mapped, software: "test vector" } as const;
  assert.deepEqual(decodeStunAnswer(RESPONSE_6), answer);
});

test("a request is twenty bytes of header and a fingerprint", () => {
  assert.equal(toHex(encodeStunRequest(TRANSACTION)), `000100082112a442${toHex(TRANSACTION)}80280004fdf6ae02`);
});

for (const text of ["203.0.113.7:51820", "[2001:db8::7]:1", "0.0.0.0:65535"])
  test(`a server's answer to a request from ${text} says so`, () => {
    const from = parseEndpoint(text);
    const request = decodeStunRequest(encodeStunRequest(TRANSACTION)) ?? assert.fail("not a request");
    const answer = decodeStunAnswer(encodeStunResponse(request, from));
    assert.deepEqual(answer, { kind: "success", transaction: TRANSACTION, mapped: from, software: undefined });
  });

test("a request with an attribute we must understand and do not is refused with 420, which names it", () => {
  const request = decodeStunRequest(REQUEST) ?? assert.fail("not a request");
  const response = encodeStunResponse(request, parseEndpoint("203.0.113.7:9"));
  const answer = decodeStunAnswer(response);
  assert.ok(answer?.kind === "error");
  assert.deepEqual([answer.code, answer.reason], [420, "Unknown Attribute"]);
  assert.deepEqual(
    decodeFrame(response)?.attributes.find(({ type }) => type === 0x000a)?.value,
    Uint8Array.of(0, 0x24),
  );
});

test("an answer is never more than three times its request, whatever was asked", () => {
  const unknown = Array.from({ length: 30 }, (_, i) => i + 0x30);
  const request: StunRequest = { transaction: TRANSACTION, software: undefined, unknown };
  const asked = encodeStunRequest(TRANSACTION).length;
  for (const text of ["203.0.113.7:9", "[2001:db8::7]:9"])
    for (const one of [request, { ...request, unknown: [] }])
      assert.ok(encodeStunResponse(one, parseEndpoint(text)).length <= 3 * asked);
});

test("an old server's MAPPED-ADDRESS is read when there is no XOR-MAPPED-ADDRESS", () => {
  const value = bytes("0001 ca6c cb007107");
  const datagram = encodeFrame({ type: 0x0101, transaction: TRANSACTION, attributes: [{ type: 1, value }] });
  const answer = decodeStunAnswer(datagram);
  assert.ok(answer?.kind === "success");
  assert.deepEqual(answer.mapped, tryEndpoint("203.0.113.7:51820"));
});

test("a success with an attribute that must be understood and is not is dropped", () => {
  const attributes = [
    { type: 0x0001, value: bytes("0001 ca6c cb007107") },
    { type: 0x0026, value: new Uint8Array(4) },
  ];
  assert.equal(decodeStunAnswer(encodeFrame({ type: 0x0101, transaction: TRANSACTION, attributes })), undefined);
});

test("a wrong fingerprint, a wrong length and a second message behind the first are dropped", () => {
  const wrong = RESPONSE_4.slice();
  wrong[wrong.length - 1] = (wrong.at(-1) ?? 0) ^ 1;
  assert.equal(decodeStunAnswer(wrong), undefined);
  assert.equal(decodeStunAnswer(RESPONSE_4.subarray(0, -4)), undefined);
  assert.equal(decodeStunAnswer(Uint8Array.of(...RESPONSE_4, ...RESPONSE_4)), undefined);
});

test("ten thousand datagrams of garbage throw nothing, nor do damaged good ones", () => {
  const internet = new Internet(1);
  for (let i = 0; i < 10_000; i++) {
    const good = [REQUEST, RESPONSE_4, RESPONSE_6][i % 3] ?? REQUEST;
    const datagram = i % 2 === 0 ? internet.random(Math.floor(internet.chance() * 120)) : good.slice();
    if (i % 2 === 1) datagram[Math.floor(internet.chance() * datagram.length)] = Math.floor(internet.chance() * 256);
    decodeStunRequest(datagram);
    decodeStunAnswer(datagram);
  }
});
