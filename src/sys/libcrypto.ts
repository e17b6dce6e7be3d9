import { Arena } from "./arena.js";
import type { Address, Libc } from "./libc.js";

/**
 * ChaCha20-Poly1305 straight from OpenSSL's libcrypto: a quarter of the time node:crypto takes, which makes a
 * cipher object per packet. The key is set with every call (a copy of 32 bytes), so that none outlives its session.
 */
const LIBRARY = "libcrypto.so.3";
const GET_TAG = 0x10;
const SET_TAG = 0x11;
const TAG_BYTES = 16;
const PACKET_BYTES_MAX = 65_536;

/** Undefined where there is no OpenSSL 3 to load, or where it does not do what it should. */
export function loadLibcrypto(libc: Libc): Libcrypto | undefined {
  let crypto: Libcrypto;
  try {
    crypto = new Libcrypto(libc);
  } catch {
    return undefined;
  }
  return crypto.worksAlike() ? crypto : undefined;
}

export class Libcrypto {
  readonly #arena: Arena;
  readonly #sealing: Address;
  readonly #opening: Address;
  readonly #key: number;
  readonly #nonce: number;
  readonly #length: number;
  readonly #packet: number;
  readonly #call: ReturnType<typeof bindEvp>;

  constructor(libc: Libc) {
    const call = bindEvp(libc);
    this.#call = call;
    this.#arena = new Arena(libc, PACKET_BYTES_MAX + 256);
    this.#key = this.#arena.take(32);
    this.#nonce = this.#arena.take(16);
    this.#length = this.#arena.take(16);
    this.#packet = this.#arena.take(PACKET_BYTES_MAX + TAG_BYTES);
    this.#sealing = call.newContext();
    this.#opening = call.newContext();
    const cipher = call.chacha20Poly1305();
    if (
      call.encryptInit(this.#sealing, cipher, 0, 0, 0) !== 1 ||
      call.decryptInit(this.#opening, cipher, 0, 0, 0) !== 1
    )
      throw new Error("libcrypto has no ChaCha20-Poly1305");
  }

  seal(key: Uint8Array, counter: bigint | number, plaintext: Uint8Array, into: Uint8Array, at: number): void {
    const { bytes, base } = this.#arena;
    const packet = base + this.#packet;
    const length = plaintext.length;
    this.#setKey(key, counter);
    bytes.set(plaintext, this.#packet);
    const done =
      this.#call.encryptInit(this.#sealing, 0, 0, base + this.#key, base + this.#nonce) === 1 &&
      (length === 0 || this.#call.encryptUpdate(this.#sealing, packet, base + this.#length, packet, length) === 1) &&
      this.#call.encryptFinal(this.#sealing, packet + length, base + this.#length) === 1 &&
      this.#call.control(this.#sealing, GET_TAG, TAG_BYTES, packet + length) === 1;
    if (!done) throw new Error("libcrypto does not seal");
    copy(bytes, this.#packet, length + TAG_BYTES, into, at);
  }

  open(key: Uint8Array, counter: bigint | number, ciphertext: Uint8Array, into: Uint8Array, at: number): number {
    const length = ciphertext.length - TAG_BYTES;
    if (length < 0 || length > PACKET_BYTES_MAX) return -1;
    const { bytes, base } = this.#arena;
    const packet = base + this.#packet;
    this.#setKey(key, counter);
    bytes.set(ciphertext, this.#packet);
    const genuine =
      this.#call.decryptInit(this.#opening, 0, 0, base + this.#key, base + this.#nonce) === 1 &&
      (length === 0 || this.#call.decryptUpdate(this.#opening, packet, base + this.#length, packet, length) === 1) &&
      this.#call.control(this.#opening, SET_TAG, TAG_BYTES, packet + length) === 1 &&
      this.#call.decryptFinal(this.#opening, packet + length, base + this.#length) === 1;
    if (!genuine) return -1;
    copy(bytes, this.#packet, length, into, at);
    return length;
  }

  /** Sealed and opened again, and refused under another counter. */
  worksAlike(): boolean {
    const key = Uint8Array.from({ length: 32 }, (_, i) => 0x80 + i);
    const sealed = new Uint8Array(19);
    this.seal(key, 7, Uint8Array.of(1, 2, 3), sealed, 0);
    const opened = new Uint8Array(3);
    const length = this.open(key, 7, sealed, opened, 0);
    return length === 3 && opened.join() === "1,2,3" && this.open(key, 8, sealed, opened, 0) === -1;
  }

  #setKey(key: Uint8Array, counter: bigint | number): void {
    const { bytes, view } = this.#arena;
    bytes.set(key, this.#key);
    // 32 zero bits, then the counter, little-endian.
    if (typeof counter === "bigint") view.setBigUint64(this.#nonce + 4, counter, true);
    else {
      view.setUint32(this.#nonce + 4, counter >>> 0, true);
      view.setUint32(this.#nonce + 8, Math.floor(counter / 0x1_0000_0000), true);
    }
  }
}

function bindEvp(libc: Libc) {
  const c = libc.koffi.load(LIBRARY);
  const init = ["uintptr_t", "uintptr_t", "uintptr_t", "uintptr_t", "uintptr_t"];
  const update = ["uintptr_t", "uintptr_t", "uintptr_t", "uintptr_t", "int"];
  const last = ["uintptr_t", "uintptr_t", "uintptr_t"];
  type Init = (context: Address, cipher: Address, engine: Address, key: Address, nonce: Address) => number;
  type Update = (context: Address, out: Address, lengthAt: Address, from: Address, length: number) => number;
  type Final = (context: Address, out: Address, lengthAt: Address) => number;
  return {
    newContext: c.func("EVP_CIPHER_CTX_new", "uintptr_t", []) as () => Address,
    chacha20Poly1305: c.func("EVP_chacha20_poly1305", "uintptr_t", []) as () => Address,
    encryptInit: c.func("EVP_EncryptInit_ex", "int", init) as Init,
    encryptUpdate: c.func("EVP_EncryptUpdate", "int", update) as Update,
    encryptFinal: c.func("EVP_EncryptFinal_ex", "int", last) as Final,
    decryptInit: c.func("EVP_DecryptInit_ex", "int", init) as Init,
    decryptUpdate: c.func("EVP_DecryptUpdate", "int", update) as Update,
    decryptFinal: c.func("EVP_DecryptFinal_ex", "int", last) as Final,
    control: c.func("EVP_CIPHER_CTX_ctrl", "int", ["uintptr_t", "int", "int", "uintptr_t"]) as (
      context: Address,
      command: number,
      length: number,
      at: Address,
    ) => number,
  };
}

function copy(from: Uint8Array, start: number, length: number, into: Uint8Array, at: number): void {
  into.set(from.subarray(start, start + length), at);
}
