import assert from "node:assert/strict";
import { createCipheriv, createHash, randomInt } from "node:crypto";
import { test } from "node:test";
import { loadWasm, WASM_SCRATCH_BYTES, type WasmCrypto } from "../../src/engine/wasmaead.js";

const PAGE_BYTES = 65_536;
const SCRATCH = 64;
const KEY = SCRATCH + WASM_SCRATCH_BYTES;
const PACKET = KEY + 128;
const TAG_BYTES = 16;

const memory = new WebAssembly.Memory({ initial: 4, maximum: 4 });
const bytes = new Uint8Array(memory.buffer);
const wasm = load();
const key = noise("key", 32);
bytes.set(key, KEY);

test("RFC 8439 §2.4.2: the sunscreen text becomes the ciphertext printed there", () => {
  const text =
    "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.";
  const sealed = sealWith(
    Uint8Array.from({ length: 32 }, (_, i) => i),
    { low: 0x4a000000, high: 0 },
    text,
  );
  assert.equal(
    sealed,
    "6e2e359a2568f98041ba0728dd0d6981e97e7aec1d4360c20a27afccfd9fae0bf91b65c5524733ab8f593dabcd62b3571639d624e65152ab" +
      "8f530c359f0861d807ca0dbf500d6a6156a38e088a22b65e52bc514d16ccf806818ce91ab77937365af90bbf74a35be6b40b8eedf2785e42874d",
  );
});

test("RFC 8439 A.5: the draft boilerplate becomes the ciphertext printed there", () => {
  const text =
    "Internet-Drafts are draft documents valid for a maximum of six months and may be updated, replaced, or obsoleted by other documents at any time. It is inappropriate to use Internet-Drafts as reference material or to cite them other than as /“work in progress./”";
  const sealed = sealWith(
    Buffer.from("1c9240a5eb55d38af333888604f6b5f0473917c1402b80099dca5cbc207075c0", "hex"),
    { low: 0x04030201, high: 0x08070605 },
    text,
  );
  assert.equal(
    sealed,
    "64a0861575861af460f062c79be643bd5e805cfd345cf389f108670ac76c8cb24c6cfc18755d43eea09ee94e382d26b0bdb7b73c321b0100" +
      "d4f03b7f355894cf332f830e710b97ce98c8a84abd0b948114ad176e008d33bd60f982b1ff37c8559797a06ef4f0ef61c186324e2b350638" +
      "3606907b6a7c02b0f9f6157b53c867e4b9166c767b804d46a59b5216cde7a4e99040c5a40433225ee282a1b0a06c523eaf4534d7f83fa115" +
      "5b0047718cbc546a0d072b04b3564eea1b422273f548271a0bb2316053fa76991955ebd63159434ecebb4e466dae5a1073a6727627097a10" +
      "49e617d91d361094fa68f0ff77987130305beaba2eda04df997b714d6c6f2c29a6ad5cb4022b02709b",
  );
});

test("RFC 8439 §2.6.2: the one-time key of block 0 is the one printed there", () => {
  sealWith(
    Uint8Array.from({ length: 32 }, (_, i) => 0x80 + i),
    { low: 0x03020100, high: 0x07060504 },
    "",
  );
  assert.equal(hex(SCRATCH, 32), "8ad5a08b905f81cc815040274ab29471a833b637e3fd0da508dbb8e2fdd1a646");
});

test("every length from 0 to 2100 seals as OpenSSL does, opens again, and touches nothing around it", () => {
  for (let length = 0; length <= 2100; length++) holds(length, length % 16, 0x1_0000_0000 * (length % 3) + length);
});

test("lengths up to 65,535 under counters up to 2^64 do", () => {
  for (const length of [65_535, 65_520, 65_519, ...Array.from({ length: 60 }, () => randomInt(2101, 65_535))])
    holds(length, randomInt(16), randomInt(2 ** 47));
  holds(100, 0, 0xffffffff);
  holds(100, 0, 0x1_0000_0000);
  bytes.set(noise("top", 40), PACKET);
  wasm.seal(KEY, 0xffffffff, 0xffffffff, PACKET, 40);
  assert.equal(hex(PACKET, 56), twin(noise("top", 40), 0xffffffff, 0xffffffff));
});

test("a run of packets is sealed as each of them alone, also across 2^32", () => {
  for (let length = 0; length <= 700; length++) {
    const count = 1 + (length % 4);
    const stride = length + TAG_BYTES + (length % 7);
    const before = noise(`run ${length}`, stride * count);
    bytes.set(before, PACKET);
    wasm.sealRun(KEY, 0xfffffffe, 7, PACKET, length, stride, count);
    for (let i = 0; i < count; i++) {
      const [from, at] = [i * stride, PACKET + i * stride];
      const [low, high] = i < 2 ? [0xfffffffe + i, 7] : [i - 2, 8];
      const gap = Buffer.from(before.subarray(from + length + TAG_BYTES, from + stride)).toString("hex");
      const wanted = twin(before.subarray(from, from + length), low, high) + gap;
      assert.equal(hex(at, stride), wanted, `length ${length}, packet ${i}`);
    }
  }
});

test("a run of no packets writes nothing", () => {
  const before = bytes.slice();
  wasm.sealRun(KEY, 0, 0, PACKET, 100, 128, 0);
  assert.ok(Buffer.from(before).equals(bytes));
});

test("no single flipped bit of a sealed packet is accepted, and its bytes become zeros", () => {
  for (const length of [0, 1, 15, 16, 17, 191, 192, 193, 447, 448, 449, 1420]) {
    const plain = noise("flipped", length);
    const step = length < 200 ? 1 : 37;
    for (let bit = 0; bit < (length + TAG_BYTES) * 8; bit += step) {
      bytes.set(plain, PACKET);
      wasm.seal(KEY, 5, 0, PACKET, length);
      bytes[PACKET + (bit >> 3)] = (bytes[PACKET + (bit >> 3)] ?? 0) ^ (1 << (bit & 7));
      assert.equal(wasm.open(KEY, 5, 0, PACKET, length), false, `bit ${bit} of ${length} bytes`);
      assert.ok(bytes.subarray(PACKET, PACKET + length).every((byte) => byte === 0));
    }
  }
});

test("another counter, another key and another length do not open a packet", () => {
  const sealed = (): void => {
    bytes.set(noise("other", 300), PACKET);
    wasm.seal(KEY, 5, 9, PACKET, 300);
  };
  const otherKey = KEY + 64;
  bytes.set(noise("other key", 32), otherKey);
  for (const [name, open] of [
    ["low half", () => wasm.open(KEY, 6, 9, PACKET, 300)],
    ["high half", () => wasm.open(KEY, 5, 8, PACKET, 300)],
    ["key", () => wasm.open(otherKey, 5, 9, PACKET, 300)],
    ["shorter", () => wasm.open(KEY, 5, 9, PACKET, 299)],
    ["longer", () => wasm.open(KEY, 5, 9, PACKET, 301)],
  ] as const) {
    sealed();
    assert.equal(open(), false, name);
  }
  sealed();
  assert.equal(wasm.open(KEY, 5, 9, PACKET, 300), true);
});

test("a packet may end where the memory ends", () => {
  const at = 4 * PAGE_BYTES - 1421 - TAG_BYTES;
  const plain = noise("end", 1421);
  bytes.set(plain, at);
  wasm.seal(KEY, 1, 0, at, 1421);
  assert.equal(hex(at, 1421 + TAG_BYTES), twin(plain, 1, 0));
  assert.equal(wasm.open(KEY, 1, 0, at, 1421), true);
  assert.deepEqual(bytes.subarray(at, at + 1421), plain);
});

/** Seals against node:crypto, opens, and compares all memory but the packet, its tag and the scratch. */
function holds(length: number, offset: number, counter: number): void {
  const [low, high] = [counter >>> 0, Math.floor(counter / 0x1_0000_0000)];
  const at = PACKET + offset;
  const plain = noise(`plain ${length}`, length);
  bytes.set(plain, at);
  const before = bytes.slice();
  const untouched = (): boolean =>
    Buffer.from(before.buffer, 0, SCRATCH).equals(bytes.subarray(0, SCRATCH)) &&
    Buffer.from(before.buffer, KEY, at - KEY).equals(bytes.subarray(KEY, at)) &&
    Buffer.from(before.buffer, at + length + TAG_BYTES).equals(bytes.subarray(at + length + TAG_BYTES));
  wasm.seal(KEY, low, high, at, length);
  assert.equal(hex(at, length + TAG_BYTES), twin(plain, low, high), `length ${length}`);
  assert.ok(untouched(), `sealing ${length} bytes wrote elsewhere`);
  assert.equal(wasm.open(KEY, low, high, at, length), true, `length ${length}`);
  assert.ok(Buffer.from(plain).equals(bytes.subarray(at, at + length)), `length ${length}`);
  assert.ok(untouched(), `opening ${length} bytes wrote elsewhere`);
}

function sealWith(otherKey: Uint8Array, counter: { low: number; high: number }, text: string): string {
  const plain = Buffer.from(text);
  const keyAt = KEY + 64;
  bytes.set(otherKey, keyAt);
  bytes.set(plain, PACKET);
  wasm.seal(keyAt, counter.low, counter.high, PACKET, plain.length);
  return hex(PACKET, plain.length);
}

function twin(plain: Uint8Array, low: number, high: number): string {
  const nonce = Buffer.alloc(12);
  nonce.writeUInt32LE(low, 4);
  nonce.writeUInt32LE(high, 8);
  const cipher = createCipheriv("chacha20-poly1305", key, nonce, { authTagLength: TAG_BYTES });
  return Buffer.concat([cipher.update(plain), cipher.final(), cipher.getAuthTag()]).toString("hex");
}

function hex(at: number, length: number): string {
  return Buffer.from(memory.buffer, at, length).toString("hex");
}

/** The same bytes for the same name. */
function noise(name: string, length: number): Uint8Array {
  return Uint8Array.from(
    createHash("shake256", { outputLength: Math.max(length, 1) })
      .update(name)
      .digest(),
  ).subarray(0, length);
}

function load(): WasmCrypto {
  const loaded = loadWasm(memory, SCRATCH);
  assert.ok(loaded !== undefined, "Node 20 has WebAssembly SIMD");
  return loaded;
}
