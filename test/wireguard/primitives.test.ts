import assert from "node:assert/strict";
import { test } from "node:test";
import { toHex, utf8 } from "../../src/kit/bytes.js";
import { dh, hash, hmac, kdf, keyPairOf, mac, open, seal } from "../../src/kit/crypto.js";
import { nodeAead } from "../../src/wireguard/transportaead.js";
import { hex } from "./hex.js";

const UP_TO_31 = Uint8Array.from({ length: 32 }, (_, i) => i);

test("X25519 multiplies as RFC 7748 §5.2 says", () => {
  const scalar = hex("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4");
  const point = hex("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c");
  const shared = dh(scalar, point);
  assert.equal(shared && toHex(shared), "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552");
});

test("X25519 agrees on the secret of RFC 7748 §6.1", () => {
  const bob = keyPairOf(hex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"));
  assert.equal(toHex(bob.publicKey), "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f");
  const shared = dh(bob.privateKey, hex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"));
  assert.equal(shared && toHex(shared), "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742");
});

for (const { name, point } of [
  { name: "zero", point: "00".repeat(32) },
  { name: "one", point: `01${"00".repeat(31)}` },
  { name: "of order eight", point: "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800" },
  { name: "p - 1", point: `ec${"ff".repeat(30)}7f` },
])
  test(`X25519 refuses the low-order point ${name}`, () => {
    assert.equal(dh(UP_TO_31, hex(point)), undefined);
  });

test("ChaCha20-Poly1305 opens and seals the example of RFC 8439 appendix A.5", () => {
  const key = hex("1c9240a5eb55d38af333888604f6b5f0473917c1402b80099dca5cbc207075c0");
  const associated = hex("f33388860000000000004e91");
  const text = utf8(
    "Internet-Drafts are draft documents valid for a maximum of six months and may be updated, replaced, or obsoleted " +
      "by other documents at any time. It is inappropriate to use Internet-Drafts as reference material or to cite them " +
      "other than as /“work in progress./”",
  );
  const counter = 0x0807060504030201n;
  const sealed = seal(key, counter, text, associated);
  assert.equal(toHex(sealed.subarray(0, 16)), "64a0861575861af460f062c79be643bd");
  assert.equal(toHex(sealed.subarray(-16)), "eead9d67890cbb22392336fea1851f38");
  assert.deepEqual(open(key, counter, sealed, associated), text);
});

test("the transport cipher in place equals the handshake cipher with no associated data", () => {
  const body = new Uint8Array(48);
  body.set(utf8("a packet"), 16);
  nodeAead.seal(UP_TO_31, 2n ** 60n + 7n, body.subarray(16, 32), body, 16);
  const padded = Uint8Array.of(...utf8("a packet"), ...new Uint8Array(8));
  assert.equal(toHex(body.subarray(16)), toHex(seal(UP_TO_31, 2n ** 60n + 7n, padded, new Uint8Array(0))));
  const plaintext = new Uint8Array(16);
  assert.equal(nodeAead.open(UP_TO_31, 2n ** 60n + 7n, body.subarray(16), plaintext, 0), 16);
  assert.deepEqual(plaintext, padded);
  body[20] = (body[20] ?? 0) ^ 1;
  assert.equal(nodeAead.open(UP_TO_31, 2n ** 60n + 7n, body.subarray(16), plaintext, 0), -1);
});

test("BLAKE2s hashes the example of RFC 7693 appendix B", () => {
  assert.equal(toHex(hash(utf8("abc"))), "508c5e8c327c14e2e1a72ba34eeb452f37458b209ed63a294d999b4c86675982");
  assert.deepEqual(hash(utf8("a"), utf8("bc")), hash(utf8("abc")));
});

test("keyed BLAKE2s, HMAC and the key derivation agree with Python's hashlib and hmac", () => {
  assert.equal(toHex(mac(UP_TO_31, utf8("wire"), utf8("guard"))), "a61558c1c840ba642e30ae5887ea786d");
  assert.equal(
    toHex(hmac(UP_TO_31, utf8("wireguard"))),
    "856f1b248b4d5a741767b3242d3d7a3474e4c3ff1681af8bdd10d7fb6b428d1f",
  );
  const outputs = kdf(UP_TO_31, utf8("input")).map(toHex);
  assert.deepEqual(outputs, KDF_OUTPUTS);
});

const KDF_OUTPUTS = [
  "87b7f70b24183c6db5dc4f6d9f4c47cdb203321aa2a0bef714896adb3107a040",
  "538a02e1eb2e31b7e4d4b82476d1fe2acf50085d3fb584537279195f5d1f5824",
  "9ad858025593be88de0f9442a589cfe84a88dc19e4753d93684d1c5efc4837f9",
];
