import assert from "node:assert/strict";
import { test } from "node:test";
import { fromHex, toHex } from "../../src/kit/bytes.js";
import { boxOpen, boxSeal, keyPairOf } from "../../src/kit/crypto.js";
import { datagramKind } from "../../src/kit/datagramkind.js";
import { parseEndpoint } from "../../src/kit/endpoint.js";
import { decodeProbe, encodeProbe, PING_BYTES, type Probe, probeKey, probeSender } from "../../src/wire/probe.js";

const bytes = (hex: string): Uint8Array => fromHex(hex.replaceAll(/\s/g, "")) ?? assert.fail(`not hex: ${hex}`);
const left = keyPairOf(new Uint8Array(32).fill(1));
const right = keyPairOf(new Uint8Array(32).fill(2));
const key = probeKey(left.privateKey, right.publicKey) ?? assert.fail("no key");
const nonce = Uint8Array.from({ length: 24 }, (_, i) => i);
const transaction = bytes("a0a1a2a3a4a5a6a7a8a9aaab");
const HEAD = `45584e44 ${toHex(left.publicKey)} 000102030405060708090a0b0c0d0e0f1011121314151617`;

/** What is in the box; before it stands HEAD. */
const EXAMPLES: readonly { readonly name: string; readonly probe: Probe; readonly body: string }[] = [
  {
    name: "a ping",
    probe: { kind: "ping", transaction, padding: 0 },
    body: "01 a0a1a2a3a4a5a6a7a8a9aaab",
  },
  {
    name: "a ping with padding",
    probe: { kind: "ping", transaction, padding: 5 },
    body: "01 a0a1a2a3a4a5a6a7a8a9aaab 0000000000",
  },
  {
    name: "a pong with an IPv4 source",
    probe: { kind: "pong", transaction, source: parseEndpoint("203.0.113.7:51820") },
    body: "02 a0a1a2a3a4a5a6a7a8a9aaab 00000000000000000000ffffcb007107 ca6c",
  },
  {
    name: "a pong with an IPv6 source",
    probe: { kind: "pong", transaction, source: parseEndpoint("[2001:db8::7]:51820") },
    body: "02 a0a1a2a3a4a5a6a7a8a9aaab 20010db8000000000000000000000007 ca6c",
  },
  {
    name: "a call without endpoints",
    probe: { kind: "call-me-maybe", nat: "blocked", endpoints: [] },
    body: "03 04 00",
  },
  {
    name: "a call with two endpoints",
    probe: {
      kind: "call-me-maybe",
      nat: "hard",
      endpoints: [parseEndpoint("203.0.113.7:51820"), parseEndpoint("[2001:db8::7]:1")],
    },
    body: "03 03 02 00000000000000000000ffffcb007107 ca6c 20010db8000000000000000000000007 0001",
  },
];

for (const { name, probe, body } of EXAMPLES)
  test(`${name}: encodes to these bytes and decodes from them`, () => {
    const datagram = encodeProbe(probe, left.publicKey, key, nonce);
    const box = datagram.subarray(60);
    assert.equal(toHex(datagram.subarray(0, 60)), HEAD.replaceAll(" ", ""));
    assert.equal(toHex(boxOpen(key, nonce, box, datagram.subarray(0, 36)) ?? box), body.replaceAll(" ", ""));
    assert.deepEqual(decodeProbe(datagram, probeKey(right.privateKey, left.publicKey) ?? assert.fail()), probe);
    assert.deepEqual(probeSender(datagram), left.publicKey);
    assert.equal(datagramKind(datagram), "probe");
  });

test("padding makes a ping exactly as long as it is asked to be", () => {
  const ping = (padding: number) =>
    encodeProbe({ kind: "ping", transaction, padding }, left.publicKey, key, nonce).length;
  assert.equal(ping(0), PING_BYTES);
  assert.equal(ping(1_472 - PING_BYTES), 1_472);
});

test("a ping's bytes are these, seal included", () => {
  const datagram = encodeProbe({ kind: "ping", transaction, padding: 0 }, left.publicKey, key, nonce);
  const box = "5aa4759fd78012247c9b5e84c8 4d58739dfd315a423872ae50605e3222";
  assert.equal(toHex(datagram.subarray(60)), box.replaceAll(" ", ""));
});

for (const [name, body] of [
  ["an unknown type", "04 a0a1a2a3a4a5a6a7a8a9aaab"],
  ["a ping padded with something", "01 a0a1a2a3a4a5a6a7a8a9aaab 0001"],
  ["a ping with half a transaction", "01 a0a1a2a3a4a5"],
  ["a pong without a source", "02 a0a1a2a3a4a5a6a7a8a9aaab"],
  ["a pong from port 0", "02 a0a1a2a3a4a5a6a7a8a9aaab 00000000000000000000ffffcb007107 0000"],
  ["a call that counts one endpoint and has none", "03 00 01"],
  ["a call with seventeen endpoints", `03 00 11 ${"00000000000000000000ffffcb007107 ca6c".repeat(17)}`],
  ["a call from a NAT of no kind", "03 05 00"],
  ["nothing at all", ""],
] as const)
  test(`${name}, rightly sealed, is nothing`, () => {
    const head = bytes(HEAD);
    const box = boxSeal(key, nonce, bytes(body), head.subarray(0, 36));
    assert.equal(decodeProbe(Uint8Array.of(...head, ...box), key), undefined);
  });

test("a datagram with any bit changed is nothing, wherever the bit", () => {
  const datagram = encodeProbe({ kind: "ping", transaction, padding: 3 }, left.publicKey, key, nonce);
  for (let bit = 0; bit < datagram.length * 8; bit += 3) {
    const changed = datagram.slice();
    changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7));
    assert.equal(decodeProbe(changed, key), undefined, `bit ${bit}`);
  }
});

test("a datagram cut short or made longer is nothing", () => {
  const datagram = encodeProbe({ kind: "ping", transaction, padding: 0 }, left.publicKey, key, nonce);
  for (let length = 0; length < datagram.length; length++)
    assert.equal(decodeProbe(datagram.subarray(0, length), key), undefined);
  assert.equal(decodeProbe(Uint8Array.of(...datagram, 0), key), undefined);
});

test("a call never carries more than sixteen endpoints", () => {
  const endpoints = Array.from({ length: 40 }, (_, i) => parseEndpoint(`203.0.113.${i + 1}:9`));
  const datagram = encodeProbe({ kind: "call-me-maybe", nat: "easy", endpoints }, left.publicKey, key, nonce);
  const probe = decodeProbe(datagram, key);
  assert.ok(probe?.kind === "call-me-maybe");
  assert.equal(probe.endpoints.length, 16);
});

test("both sides of a pair derive the same key, and a low-order public key gives none", () => {
  assert.deepEqual(probeKey(right.privateKey, left.publicKey), key);
  assert.equal(probeKey(left.privateKey, new Uint8Array(32)), undefined);
});
