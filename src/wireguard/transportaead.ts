import { openInto, sealInto } from "../kit/crypto.js";

/**
 * ChaCha20-Poly1305 of transport messages (paper §5.4.6): no associated data, the nonce is 32 zero bits and the
 * counter, little-endian. It is an interface because the packet engine brings a faster one.
 */
export interface TransportAead {
  /** Writes the ciphertext and its 16-byte tag to `into` from `at`; `plaintext` may be that very stretch of `into`. */
  seal(key: Uint8Array, counter: bigint | number, plaintext: Uint8Array, into: Uint8Array, at: number): void;
  /** Writes the plaintext to `into` from `at` and returns its length; -1, and nothing of use written, for a forgery. */
  open(key: Uint8Array, counter: bigint | number, ciphertext: Uint8Array, into: Uint8Array, at: number): number;
}

export const nodeAead: TransportAead = { seal: sealInto, open: openInto };
