import { keyPairOf } from "../kit/crypto.js";
import { type Key, keyBytes, keyOf } from "../kit/key.js";

/**
 * This device's WireGuard key, and the one that is to follow it.
 *
 * WireGuard has one private key an interface, so that there is one moment at which it changes. The device says hello to
 * the coordinator by its new key and goes on using the old one; the coordinator's welcome is that moment here, and the
 * map that follows is it at the peers. Both sides then call the other at once: whose call comes too early is not heard,
 * and the later one's is answered. A device that dies in between says hello by its old key again, and is known by it.
 */
export class Rotation {
  readonly #keep: (privateKey: Key) => Promise<void>;
  #current: Key;
  #next: Key | undefined;

  /** `keep` makes the key last. */
  constructor(current: Key, keep: (privateKey: Key) => Promise<void>) {
    this.#current = current;
    this.#keep = keep;
  }

  /** The private key in use. */
  get privateKey(): Key {
    return this.#current;
  }

  /** The public half of it. */
  get used(): Key {
    return publicOf(this.#current);
  }

  /** The public key that the coordinator is told. */
  get offered(): Key {
    return publicOf(this.#next ?? this.#current);
  }

  begin(next: Key): void {
    this.#next = next;
  }

  /** The coordinator knows us by this public key now; true when the key in use has become another one by that. */
  async welcomed(publicKey: Key): Promise<boolean> {
    const next = this.#next;
    if (next === undefined || publicOf(next) !== publicKey) return false;
    this.#current = next;
    this.#next = undefined;
    await this.#keep(next);
    return true;
  }
}

const publicOf = (privateKey: Key): Key => keyOf(keyPairOf(keyBytes(privateKey)).publicKey);
