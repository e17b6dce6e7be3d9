import type { Arena } from "./arena.js";
import type { Address, Libc } from "./libc.js";

/**
 * ChaCha20-Poly1305 straight from OpenSSL's libcrypto, on packets where they lie: a quarter of the time node:crypto
 * takes, which makes a cipher object per packet.
 */
const LIBRARY = "libcrypto.so.3";
const GET_TAG = 0x10;
const SET_TAG = 0x11;
const TAG_BYTES = 16;
const KEY_BYTES = 32;
const NO_KEY = new Uint8Array(KEY_BYTES);

/** Undefined where there is no OpenSSL 3 to load, or where it does not do what it should. */
export function loadLibcrypto(libc: Libc, arena: Arena): Libcrypto | undefined {
  let crypto: Libcrypto;
  try {
    crypto = new Libcrypto(libc, arena);
  } catch {
    return undefined;
  }
  return crypto.worksAlike() ? crypto : undefined;
}

/** What of an arena it takes. */
export const LIBCRYPTO_ARENA_BYTES = 256;

export class Libcrypto {
  readonly #arena: Arena;
  readonly #sealing: Address;
  readonly #opening: Address;
  readonly #scratch: number;
  readonly #key: Address;
  readonly #nonce: Address;
  readonly #length: Address;
  readonly #call: ReturnType<typeof bindEvp>;
  /** The keys that the contexts hold; a packet under the same one sets only the nonce. */
  #sealKey: Uint8Array | undefined;
  #openKey: Uint8Array | undefined;

  constructor(libc: Libc, arena: Arena) {
    const call = bindEvp(libc);
    this.#call = call;
    this.#arena = arena;
    this.#scratch = arena.take(96);
    this.#key = arena.base + this.#scratch;
    this.#nonce = this.#key + KEY_BYTES;
    this.#length = this.#nonce + 16;
    this.#sealing = call.newContext();
    this.#opening = call.newContext();
    const cipher = call.chacha20Poly1305();
    if (
      call.encryptInit(this.#sealing, cipher, 0, 0, 0) !== 1 ||
      call.decryptInit(this.#opening, cipher, 0, 0, 0) !== 1
    )
      throw new Error("libcrypto has no ChaCha20-Poly1305");
  }

  /** Seals `length` bytes of the arena in place and writes the tag behind them. */
  seal(key: Uint8Array, high: number, low: number, at: number, length: number): void {
    const { base, view } = this.#arena;
    const call = this.#call;
    const packet = base + at;
    view.setUint32(this.#scratch + KEY_BYTES + 4, low, true);
    view.setUint32(this.#scratch + KEY_BYTES + 8, high, true);
    const keyAt = key === this.#sealKey ? 0 : this.#putKey(key);
    this.#sealKey = key;
    const done =
      call.encryptInit(this.#sealing, 0, 0, keyAt, this.#nonce) === 1 &&
      (length === 0 || call.encryptUpdate(this.#sealing, packet, this.#length, packet, length) === 1) &&
      call.encryptFinal(this.#sealing, packet + length, this.#length) === 1 &&
      call.control(this.#sealing, GET_TAG, TAG_BYTES, packet + length) === 1;
    if (!done) throw new Error("libcrypto does not seal");
  }

  /** Opens `length` bytes in place, whose tag follows them; false for a forgery, which leaves nonsense there. */
  open(key: Uint8Array, high: number, low: number, at: number, length: number): boolean {
    const { base, view } = this.#arena;
    const call = this.#call;
    const packet = base + at;
    view.setUint32(this.#scratch + KEY_BYTES + 4, low, true);
    view.setUint32(this.#scratch + KEY_BYTES + 8, high, true);
    const keyAt = key === this.#openKey ? 0 : this.#putKey(key);
    this.#openKey = key;
    return (
      call.decryptInit(this.#opening, 0, 0, keyAt, this.#nonce) === 1 &&
      (length === 0 || call.decryptUpdate(this.#opening, packet, this.#length, packet, length) === 1) &&
      call.control(this.#opening, SET_TAG, TAG_BYTES, packet + length) === 1 &&
      call.decryptFinal(this.#opening, packet + length, this.#length) === 1
    );
  }

  /** Overwrites the keys it holds, so that none outlives its session. */
  forget(): void {
    if (this.#sealKey === undefined && this.#openKey === undefined) return;
    this.#sealKey = undefined;
    this.#openKey = undefined;
    this.#putKey(NO_KEY);
    this.#call.encryptInit(this.#sealing, 0, 0, this.#key, this.#nonce);
    this.#call.decryptInit(this.#opening, 0, 0, this.#key, this.#nonce);
  }

  /** Sealed and opened again, and refused under another counter. */
  worksAlike(): boolean {
    const { bytes } = this.#arena;
    const at = this.#scratch + 64;
    const key = Uint8Array.from({ length: KEY_BYTES }, (_, i) => 0x80 + i);
    bytes.set([1, 2, 3], at);
    this.seal(key, 0, 7, at, 3);
    const sealed = bytes.slice(at, at + 3 + TAG_BYTES);
    const opens = this.open(key, 0, 7, at, 3) && bytes.slice(at, at + 3).join() === "1,2,3";
    bytes.set(sealed, at);
    const refuses = !this.open(key, 0, 8, at, 3);
    this.forget();
    return opens && refuses;
  }

  #putKey(key: Uint8Array): Address {
    this.#arena.bytes.set(key, this.#scratch);
    return this.#key;
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
