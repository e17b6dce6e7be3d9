import type { Millis } from "../kit/time.js";
import {
  REJECT_AFTER_MESSAGES_HIGH,
  REJECT_AFTER_MESSAGES_LOW,
  REJECT_AFTER_MS,
  REKEY_AFTER_MESSAGES_HIGH,
  REKEY_AFTER_MS,
  REKEY_YIELD_MS,
} from "./constants.js";
import type { SessionKeys } from "./handshake.js";
import { ReplayWindow } from "./replaywindow.js";

/** One session's transport keys, indices and counters (paper §5.4.5, §6.2). */
export class Keypair {
  readonly sendKey: Uint8Array;
  readonly receiveKey: Uint8Array;
  readonly localIndex: number;
  readonly remoteIndex: number;
  readonly isInitiator: boolean;
  readonly madeAt: Millis;
  readonly window = new ReplayWindow();
  /** The next message's counter, in two halves: exact beyond 2^53 and free of allocation. */
  counterHigh = 0;
  counterLow = 0;
  /** §6.2; later for one of two sessions that crossed. */
  rekeyAfterMs: Millis = REKEY_AFTER_MS;
  /** §6.2: the initiator renews an old session once on receiving, not for every message. */
  renewedOnReceive = false;
  #zeroed = false;

  constructor(
    keys: SessionKeys,
    session: { localIndex: number; remoteIndex: number; isInitiator: boolean; madeAt: Millis },
  ) {
    this.sendKey = keys.sendKey;
    this.receiveKey = keys.receiveKey;
    this.localIndex = session.localIndex;
    this.remoteIndex = session.remoteIndex;
    this.isInitiator = session.isInitiator;
    this.madeAt = session.madeAt;
  }

  /** §6.2: past its age nothing is sent or received. */
  aged(now: Millis): boolean {
    return this.#zeroed || now - this.madeAt >= REJECT_AFTER_MS;
  }

  canSend(now: Millis): boolean {
    return !this.aged(now) && !pastLastCounter(this.counterHigh, this.counterLow);
  }

  canReceive(now: Millis, counterHigh: number, counterLow: number): boolean {
    return !this.aged(now) && !pastLastCounter(counterHigh, counterLow);
  }

  /** §6.2: the session still works, but a new handshake should begin. Only the initiator minds the age. */
  wantsRekey(now: Millis): boolean {
    return (
      this.counterHigh >= REKEY_AFTER_MESSAGES_HIGH || (this.isInitiator && now - this.madeAt >= this.rekeyAfterMs)
    );
  }

  /** Moves on to the next counter. A counter is never used twice: call it once per sealed message, before the next. */
  advance(): void {
    this.counterLow = (this.counterLow + 1) % 2 ** 32;
    if (this.counterLow === 0) this.counterHigh++;
  }

  zero(): void {
    this.sendKey.fill(0);
    this.receiveKey.fill(0);
    this.#zeroed = true;
  }
}

/** A counter from its halves: a number where that is exact. */
export function counterOf(high: number, low: number): number | bigint {
  return high < 2 ** 21 ? high * 2 ** 32 + low : (BigInt(high) << 32n) | BigInt(low);
}

function pastLastCounter(high: number, low: number): boolean {
  return high === REJECT_AFTER_MESSAGES_HIGH && low >= REJECT_AFTER_MESSAGES_LOW;
}

/**
 * A peer's sessions (paper §6.3): `current` sends; `previous` still receives what was in flight; `next` is the
 * responder's unconfirmed one, which must not send until the initiator has. Each rotation returns what fell out.
 */
export class Keypairs {
  previous: Keypair | undefined;
  current: Keypair | undefined;
  next: Keypair | undefined;
  readonly #yields: boolean;

  /**
   * One side yields: when both began at once, each initiated the session it
   * sends with, and without it they would begin at once again at every renewal.
   */
  constructor(yields: boolean) {
    this.#yields = yields;
  }

  /** The initiator knows that both have the keys: it sends with them at once. */
  addInitiated(keypair: Keypair): (Keypair | undefined)[] {
    // With an unconfirmed session at hand, that one is the newer of the two the peer may still use.
    const out = this.next === undefined ? [this.previous] : [this.previous, this.current];
    if (this.next !== undefined && this.#yields) keypair.rekeyAfterMs = REKEY_AFTER_MS + REKEY_YIELD_MS;
    this.previous = this.next ?? this.current;
    this.next = undefined;
    this.current = keypair;
    return out;
  }

  addResponded(keypair: Keypair): (Keypair | undefined)[] {
    const out = [this.next, this.previous];
    this.next = keypair;
    this.previous = undefined;
    return out;
  }

  /** §5.1: the first message received on `next` confirms it. */
  confirm(): Keypair | undefined {
    const out = this.previous;
    this.previous = this.current;
    this.current = this.next;
    this.next = undefined;
    return out;
  }

  clear(): (Keypair | undefined)[] {
    const out = [this.previous, this.current, this.next];
    this.previous = undefined;
    this.current = undefined;
    this.next = undefined;
    return out;
  }
}
