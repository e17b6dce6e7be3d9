import type { Millis } from "../kit/time.js";
import { KEEPALIVE_TIMEOUT_MS, REKEY_ATTEMPT_MS, SILENCE_MS, ZERO_AFTER_MS } from "./constants.js";

const NEVER: Millis = Number.POSITIVE_INFINITY;

/** What a timer asks for when it is due. */
export type Due = "retry" | "give-up" | "silence" | "keepalive" | "persistent" | "zero";

/**
 * A peer's timers (paper §6) as moments, and the events that move them. Nothing runs here: `due` says what is
 * overdue, `deadline` when to ask again.
 */
export class Timers {
  /** Milliseconds; 0 is off. */
  persistentMs = 0;
  #retryAt = NEVER;
  #attemptUntil = NEVER;
  #silenceAt = NEVER;
  #keepaliveAt = NEVER;
  #persistentAt = NEVER;
  #zeroAt = NEVER;

  get deadline(): Millis {
    return Math.min(this.#retryAt, this.#silenceAt, this.#keepaliveAt, this.#persistentAt, this.#zeroAt);
  }

  get handshaking(): boolean {
    return this.#retryAt !== NEVER;
  }

  /** Takes what is due off the clock. */
  due(now: Millis): Due[] {
    const due: Due[] = [];
    if (now >= this.#retryAt) {
      due.push(now >= this.#attemptUntil ? "give-up" : "retry");
      this.#retryAt = NEVER;
    }
    if (now >= this.#silenceAt) {
      due.push("silence");
      this.#silenceAt = NEVER;
    }
    if (now >= this.#keepaliveAt) {
      due.push("keepalive");
      this.#keepaliveAt = NEVER;
    }
    if (now >= this.#persistentAt) {
      due.push("persistent");
      this.#persistentAt = now + this.persistentMs;
    }
    if (now >= this.#zeroAt) {
      due.push("zero");
      this.#zeroAt = NEVER;
    }
    return due;
  }

  /** §6.4: someone wants a session; attempts go on for another REKEY_ATTEMPT_MS from here. */
  attemptWanted(now: Millis): void {
    this.#attemptUntil = now + REKEY_ATTEMPT_MS;
  }

  /** §6.4: an initiation went out; without an answer the next follows from `at` on, or the attempt ends. */
  retryAt(at: Millis, jitterMs: Millis): void {
    this.#retryAt = Math.min(at + jitterMs, this.#attemptUntil);
  }

  handshakeDone(): void {
    this.#retryAt = NEVER;
    this.#attemptUntil = NEVER;
  }

  /** §6.3: keys are forgotten when no new session was made for long; each new one begins the wait anew. */
  sessionMade(now: Millis): void {
    this.#zeroAt = now + ZERO_AFTER_MS;
  }

  gaveUp(now: Millis): void {
    this.handshakeDone();
    this.#keepaliveAt = NEVER;
    if (this.#zeroAt === NEVER) this.#zeroAt = now + ZERO_AFTER_MS;
  }

  /** A packet went out already since the peer was last heard. */
  get awaitsAnswer(): boolean {
    return this.#silenceAt !== NEVER;
  }

  /** §6.5: a packet went out; silence after it means that the session is dead. */
  packetSent(now: Millis, jitterMs: Millis): void {
    if (this.#silenceAt === NEVER) this.#silenceAt = now + SILENCE_MS + jitterMs;
  }

  /** §6.5: a packet came in; the peer must hear something back, if only a keepalive. */
  packetReceived(now: Millis): void {
    if (this.#keepaliveAt === NEVER) this.#keepaliveAt = now + KEEPALIVE_TIMEOUT_MS;
  }

  /** Any authenticated message went out: it serves as a keepalive of both kinds. */
  authenticSent(now: Millis): void {
    this.#keepaliveAt = NEVER;
    this.keepMappingAlive(now);
  }

  /** Any authenticated message came in: the peer lives. */
  authenticReceived(now: Millis): void {
    this.#silenceAt = NEVER;
    this.keepMappingAlive(now);
  }

  /** Persistent keepalives (not in the paper): after so long without traffic, for the NAT in between. */
  keepMappingAlive(now: Millis): void {
    this.#persistentAt = this.persistentMs > 0 ? now + this.persistentMs : NEVER;
  }

  /** Everything off but the persistent keepalive, which outlives sessions. */
  stop(): void {
    this.handshakeDone();
    this.#silenceAt = NEVER;
    this.#keepaliveAt = NEVER;
    this.#zeroAt = NEVER;
  }
}
