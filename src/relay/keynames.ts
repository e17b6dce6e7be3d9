import { KEY_BYTES, type Key, keyOf } from "../kit/key.js";

/** Keys kept in both forms; at one more all are forgotten, and found again at the next datagram. */
const NAMES_MAX = 4_096;

/** Keys that come as bytes with every datagram, as text: looked up, for writing base64 each time is slow. */
export class KeyNames {
  readonly #names = new Map<string, Key>();

  at(buffer: Uint8Array, at: number): Key {
    const raw = Buffer.from(buffer.buffer, buffer.byteOffset + at, KEY_BYTES).toString("latin1");
    const known = this.#names.get(raw);
    if (known !== undefined) return known;
    if (this.#names.size >= NAMES_MAX) this.#names.clear();
    const key = keyOf(buffer.subarray(at, at + KEY_BYTES));
    this.#names.set(raw, key);
    return key;
  }
}
