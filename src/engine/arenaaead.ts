import type { Arena } from "../sys/arena.js";
import type { TransportAead } from "../wireguard/transportaead.js";

/** ChaCha20-Poly1305 on packets where they lie in the arena: `length` bytes at `at`, and the tag behind them. */
export interface ArenaAead {
  seal(key: Uint8Array, high: number, low: number, at: number, length: number): void;
  /** False for a forgery, which leaves nonsense in the packet's place. */
  open(key: Uint8Array, high: number, low: number, at: number, length: number): boolean;
  /** Overwrites what it remembers of keys. */
  forget(): void;
}

const TAG_BYTES = 16;

/** The same cipher for the protocol core's few messages of its own, which lie elsewhere, by way of `scratch`. */
export function copyingAead(aead: ArenaAead, arena: Arena, scratch: number): TransportAead {
  const { bytes } = arena;
  return {
    seal(key, counter, plaintext, into, at) {
      const { high, low } = halves(counter);
      bytes.set(plaintext, scratch);
      aead.seal(key, high, low, scratch, plaintext.length);
      into.set(bytes.subarray(scratch, scratch + plaintext.length + TAG_BYTES), at);
    },
    open(key, counter, ciphertext, into, at) {
      const length = ciphertext.length - TAG_BYTES;
      if (length < 0) return -1;
      const { high, low } = halves(counter);
      bytes.set(ciphertext, scratch);
      if (!aead.open(key, high, low, scratch, length)) return -1;
      into.set(bytes.subarray(scratch, scratch + length), at);
      return length;
    },
  };
}

function halves(counter: bigint | number): { high: number; low: number } {
  if (typeof counter === "number") return { high: Math.floor(counter / 2 ** 32), low: counter >>> 0 };
  return { high: Number(counter >> 32n), low: Number(counter & 0xffff_ffffn) };
}
