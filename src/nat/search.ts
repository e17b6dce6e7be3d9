import type { Millis } from "../kit/time.js";

/** All endpoints are pinged at these moments after its beginning. */
const ROUNDS_MS: readonly Millis[] = [0, 200, 500, 1_000, 1_700];
const SEARCH_MS: Millis = 2_500;
/** Guessing begins when the ordinary search had its chance. */
const GUESS_AFTER_MS: Millis = 1_500;
/** By then the call that began it has arrived, if the peer was there for it. */
const CALL_ARRIVES_MS: Millis = 500;

/** One search for a direct path: begun with a call to the peer, over some seconds later. */
export class Search {
  readonly #startedAt: Millis;
  #rounds = 0;
  #calledBack = false;

  constructor(now: Millis) {
    this.#startedAt = now;
  }

  /** When it is to be asked again. */
  get deadline(): Millis {
    return this.#startedAt + (ROUNDS_MS[this.#rounds] ?? SEARCH_MS);
  }

  /** Whether to ping all endpoints now. */
  takeRound(now: Millis): boolean {
    const age = now - this.#startedAt;
    if (age < (ROUNDS_MS[this.#rounds] ?? Infinity)) return false;
    this.#rounds = ROUNDS_MS.filter((at) => at <= age).length;
    return true;
  }

  mayGuess(now: Millis): boolean {
    return now - this.#startedAt >= GUESS_AFTER_MS;
  }

  isOver(now: Millis): boolean {
    return now - this.#startedAt >= SEARCH_MS;
  }

  /**
   * The peer calls in the middle of it: whether to call again. It may not have been there when the search began, and
   * guessing needs what both are. Once: two calls that answer each other for ever help nobody.
   */
  callBack(now: Millis): boolean {
    if (this.#calledBack || now - this.#startedAt < CALL_ARRIVES_MS) return false;
    this.#calledBack = true;
    return true;
  }
}
