import { chacha20poly1305 } from "@noble/ciphers/chacha.js";
import { x25519 } from "@noble/curves/ed25519.js";
import { blake2s } from "@noble/hashes/blake2.js";
import { expand, extract } from "@noble/hashes/hkdf.js";
import { concat, utf8 } from "../../src/kit/bytes.js";

/**
 * Noise_IK_25519_ChaChaPoly_BLAKE2s once more, slow and obvious: another library for every primitive, the handshake
 * as the token list of the specification, payloads allowed. It is held to a published vector, and noise.ts to it.
 */
type Token = "e" | "s" | "ee" | "es" | "se" | "ss";
const PATTERN: readonly (readonly Token[])[] = [
  ["e", "es", "s", "ss"],
  ["e", "ee", "se"],
];
const EMPTY = new Uint8Array(0);

export class SlowParty {
  readonly #initiator: boolean;
  readonly #s: Uint8Array;
  readonly #e: Uint8Array;
  #rs: Uint8Array | undefined;
  #re: Uint8Array | undefined;
  #h: Uint8Array;
  #ck: Uint8Array;
  #k: Uint8Array | undefined;
  #n = 0n;
  #step = 0;

  constructor(role: "initiator" | "responder", s: Uint8Array, e: Uint8Array, prologue: Uint8Array, rs?: Uint8Array) {
    this.#initiator = role === "initiator";
    this.#s = s;
    this.#e = e;
    this.#rs = rs;
    this.#h = blake2s(utf8("Noise_IK_25519_ChaChaPoly_BLAKE2s"));
    this.#ck = this.#h;
    this.#mixHash(prologue);
    this.#mixHash(rs ?? x25519.getPublicKey(s));
  }

  write(payload: Uint8Array): Uint8Array {
    const parts = (PATTERN[this.#step++] ?? []).map((token) => {
      if (token === "e") {
        const own = x25519.getPublicKey(this.#e);
        this.#mixHash(own);
        return own;
      }
      if (token === "s") return this.#encrypt(x25519.getPublicKey(this.#s));
      this.#mixDh(token);
      return EMPTY;
    });
    return concat(...parts, this.#encrypt(payload));
  }

  read(message: Uint8Array): Uint8Array {
    let rest = message;
    const take = (length: number): Uint8Array => {
      const taken = rest.subarray(0, length);
      rest = rest.subarray(length);
      return taken;
    };
    for (const token of PATTERN[this.#step++] ?? []) {
      if (token === "e") {
        this.#re = take(32);
        this.#mixHash(this.#re);
      } else if (token === "s") this.#rs = this.#decrypt(take(48));
      else this.#mixDh(token);
    }
    return this.#decrypt(rest);
  }

  /** The initiator's sending key, the responder's sending key. */
  split(): [Uint8Array, Uint8Array] {
    return twoKeys(this.#ck, EMPTY);
  }

  #mixHash(data: Uint8Array): void {
    this.#h = blake2s(concat(this.#h, data));
  }

  #mixDh(token: Token): void {
    // §7.1: the first letter is the initiator's key, the second the responder's.
    const [mine, theirs] = this.#initiator ? [token[0], token[1]] : [token[1], token[0]];
    const remote = theirs === "e" ? this.#re : this.#rs;
    const shared = x25519.getSharedSecret(mine === "e" ? this.#e : this.#s, remote ?? EMPTY);
    [this.#ck, this.#k] = twoKeys(this.#ck, shared);
    this.#n = 0n;
  }

  #encrypt(plaintext: Uint8Array): Uint8Array {
    const ciphertext = slowSeal(this.#k ?? EMPTY, this.#n++, plaintext, this.#h);
    this.#mixHash(ciphertext);
    return ciphertext;
  }

  #decrypt(ciphertext: Uint8Array): Uint8Array {
    const plaintext = chacha20poly1305(this.#k ?? EMPTY, nonce(this.#n++), this.#h).decrypt(ciphertext);
    this.#mixHash(ciphertext);
    return plaintext;
  }
}

export function slowSeal(key: Uint8Array, n: bigint, plaintext: Uint8Array, ad: Uint8Array = EMPTY): Uint8Array {
  return chacha20poly1305(key, nonce(n), ad).encrypt(plaintext);
}

function twoKeys(chainingKey: Uint8Array, input: Uint8Array): [Uint8Array, Uint8Array] {
  const okm = expand(blake2s, extract(blake2s, input, chainingKey), EMPTY, 64);
  return [okm.slice(0, 32), okm.slice(32)];
}

function nonce(n: bigint): Uint8Array {
  const bytes = new Uint8Array(12);
  new DataView(bytes.buffer).setBigUint64(4, n, true);
  return bytes;
}
