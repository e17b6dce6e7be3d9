import { keyPairOf } from "../kit/crypto.js";
import { KEY_BYTES, type Key, keyBytes, keyOf } from "../kit/key.js";
import { MINUTE, type Millis } from "../kit/time.js";
import type { Clock } from "../sys/clock.js";
import type { Random } from "../sys/random.js";
import type { MapSelf } from "../wire/map.js";

/** Between two changes by the coordinator's time: a clock that is years ahead must not change the key all the time. */
export const ROTATIONS_APART_MS: Millis = 10 * MINUTE;

/**
 * This device's WireGuard key, and the one that is to follow it.
 *
 * WireGuard has one private key an interface, so that there is one moment at which it changes. The device says hello to
 * the coordinator by its new key and goes on using the old one; the coordinator's welcome is that moment here, and the
 * map that follows is it at the peers. Both sides then call the other at once: whose call comes too early is not heard,
 * and the later one's is answered. A device that dies in between says hello by its old key again, and is known by it.
 * So nothing is lost while the coordinator is away: the key that is used is the one that the peers know.
 */
export class Rotation {
  readonly #random: Random;
  readonly #keep: (privateKey: Key) => Promise<void>;
  #current: Key;
  #next: Key | undefined;
  #followedAt: Millis = -Infinity;

  /** `keep` makes the key last. */
  constructor(current: Key, random: Random, keep: (privateKey: Key) => Promise<void>) {
    this.#current = current;
    this.#random = random;
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

  /** Makes the key that is to follow; the next hello offers it. */
  begin(): void {
    this.#next = keyOf(this.#random(KEY_BYTES));
  }

  /**
   * Begins when the coordinator wants another key by now; true when it has begun. An exit node whose key has ended does
   * so whatever its own clock says, or a wrong one would keep it out.
   */
  follow(
    self: Pick<MapSelf, "role" | "rotateAtMs" | "waiting"> | undefined,
    clock: Pick<Clock, "now" | "wall">,
  ): boolean {
    if (self?.rotateAtMs === undefined || this.#next !== undefined) return false;
    const hasEnded = self.role === "exit-node" && self.waiting === "key-expired";
    if (clock.wall() < self.rotateAtMs && !hasEnded) return false;
    const now = clock.now();
    if (now - this.#followedAt < ROTATIONS_APART_MS) return false;
    this.#followedAt = now;
    this.begin();
    return true;
  }

  /** The coordinator knows us by this public key now; true when the key in use has become another one by that. */
  welcomed(publicKey: Key): boolean {
    const next = this.#next;
    if (next === undefined || publicOf(next) !== publicKey) return false;
    this.#current = next;
    this.#next = undefined;
    return true;
  }

  /** Fulfilled when the key in use outlasts a restart. */
  keep(): Promise<void> {
    return this.#keep(this.#current);
  }
}

const publicOf = (privateKey: Key): Key => keyOf(keyPairOf(keyBytes(privateKey)).publicKey);
