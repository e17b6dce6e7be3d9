import assert from "node:assert/strict";
import { test } from "node:test";
import { chacha20poly1305 } from "@noble/ciphers/chacha.js";
import { x25519 } from "@noble/curves/ed25519.js";
import { blake2s } from "@noble/hashes/blake2.js";
import { hkdf } from "@noble/hashes/hkdf.js";
import { hmac as nobleHmac } from "@noble/hashes/hmac.js";
import { toHex, utf8 } from "../../src/kit/bytes.js";
import { boxOpen, boxSeal, dh, hash, hmac, kdf, keyPairOf, mac, open, seal } from "../../src/kit/crypto.js";
import { nodeAead } from "../../src/wireguard/transportaead.js";
import { hex } from "./hex.js";
import { bytesOf, chanceOf } from "./world.js";

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

test("X25519 multiplies as the second vector of RFC 7748 §5.2 says, whose top bit is ignored", () => {
  const scalar = hex("4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d");
  const point = hex("e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493");
  const shared = dh(scalar, point);
  assert.equal(shared && toHex(shared), "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957");
});

test("X25519 a thousand times over ends where RFC 7748 §5.2 says", () => {
  let scalar: Uint8Array = new Uint8Array(32);
  scalar[0] = 9;
  let point = scalar;
  for (let i = 1; i <= 1_000; i++) {
    const product = dh(scalar, point);
    assert(product !== undefined);
    [scalar, point] = [product, scalar];
    if (i === 1) assert.equal(toHex(scalar), "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079");
  }
  assert.equal(toHex(scalar), "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51");
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

test("BLAKE2s, keyed and not, passes the self-test of RFC 7693 appendix E", () => {
  const sequence = (length: number): Uint8Array => {
    let [a, b] = [Math.imul(0xdead4bad, length), 1];
    return Uint8Array.from({ length }, () => {
      [a, b] = [b, (a + b) | 0];
      return b >>> 24;
    });
  };
  const digests: Uint8Array[] = [];
  for (const dkLen of [16, 20, 28, 32])
    for (const length of [0, 3, 64, 65, 255, 1024]) {
      const [input, key] = [sequence(length), sequence(dkLen)];
      digests.push(dkLen === 32 ? hash(input) : blake2s(input, { dkLen }));
      digests.push(dkLen === 16 ? mac(key, input) : blake2s(input, { dkLen, key }));
    }
  assert.equal(toHex(hash(...digests)), "6a411f08ce25adcdfb02aba641451cec53c598b24f4fc787fbdc88797f4c1dfe");
});

test("the cipher of cookies is XChaCha20-Poly1305 of draft-irtf-cfrg-xchacha-03 §A.3.1", () => {
  const key = Uint8Array.from({ length: 32 }, (_, i) => 0x80 + i);
  const nonce = Uint8Array.from({ length: 24 }, (_, i) => 0x40 + i);
  const associated = hex("50515253c0c1c2c3c4c5c6c7");
  const text = utf8(
    "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.",
  );
  const sealed = boxSeal(key, nonce, text, associated);
  assert.equal(
    toHex(sealed),
    "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb731c7f1b0b4aa6440bf3a82f4eda7e39ae64c6708c54c216" +
      "cb96b72e1213b4522f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff921f9664c97637da9768812f615c68b13b52e" +
      "c0875924c1c7987947deafd8780acf49",
  );
  assert.deepEqual(boxOpen(key, nonce, sealed, associated), text);
  assert.equal(boxOpen(key, nonce, sealed.with(0, 0), associated), undefined);
  assert.equal(boxOpen(key, nonce, sealed, associated.with(0, 0)), undefined);
});

test("the primitives agree with @noble's for any input", () => {
  const chance = chanceOf(17);
  const random = bytesOf(chance);
  for (let i = 0; i < 100; i++) {
    const [key, other, input] = [random(32), random(32), random(Math.floor(chance() * 300))];
    assert.deepEqual(dh(key, keyPairOf(other).publicKey), x25519.getSharedSecret(key, x25519.getPublicKey(other)));
    const counter = BigInt(Math.floor(chance() * 2 ** 53)) << BigInt(Math.floor(chance() * 11));
    const nonce = new Uint8Array(12);
    new DataView(nonce.buffer).setBigUint64(4, counter, true);
    assert.deepEqual(seal(key, counter, input, other), chacha20poly1305(key, nonce, other).encrypt(input));
    assert.deepEqual(hash(input, other), blake2s(Uint8Array.of(...input, ...other)));
    assert.deepEqual(hmac(key, input), nobleHmac(blake2s, key, input));
    assert.deepEqual(
      kdf(key, input),
      [0, 1, 2].map((i) => hkdf(blake2s, input, key, undefined, 96).slice(32 * i, 32 * i + 32)),
    );
  }
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
