import type { Ip } from "../kit/ip.js";
import { type Millis, SECOND } from "../kit/time.js";
import { TokenBucket } from "../kit/tokenbucket.js";
import {
  COOKIE_REPLIES_MAX,
  COOKIE_REPLIES_PER_SOURCE_MAX,
  HANDSHAKES_BEFORE_LOAD,
  HANDSHAKES_MAX_UNDER_LOAD,
  LOAD_LASTS_MS,
  SOURCE_MESSAGES_MAX,
  SOURCES_MAX,
} from "./constants.js";

/**
 * How much of the processor strangers may spend (paper §5.3). Handshake messages are counted by the second; past a
 * first limit the device is under load and asks for cookies, past a second one it handles none until the next second.
 */
export class HandshakeBudget {
  #windowFrom: Millis = Number.NEGATIVE_INFINITY;
  #arrived = 0;
  #handled = 0;
  #loadUntil: Millis = Number.NEGATIVE_INFINITY;
  #sources = new Map<Ip, TokenBucket>();
  #replies = 0;
  #repliesTo = new Map<Ip, number>();

  /** Counts one arrival with a valid mac1; true when its sender must prove its address. */
  underLoad(now: Millis): boolean {
    if (now - this.#windowFrom >= SECOND) {
      this.#windowFrom = now;
      this.#arrived = 0;
      this.#handled = 0;
      this.#replies = 0;
      if (this.#repliesTo.size > 0) this.#repliesTo = new Map();
    }
    if (++this.#arrived > HANDSHAKES_BEFORE_LOAD) this.#loadUntil = now + LOAD_LASTS_MS;
    const loaded = now < this.#loadUntil;
    if (!loaded && this.#sources.size > 0) this.#sources = new Map();
    return loaded;
  }

  /**
   * Under load, without a valid cookie: is this source to be sent one? A cookie costs more than to tell that one is
   * missing, so a flood from one address gets few, and one from many addresses no more than a share of the processor.
   */
  mayReply(source: Ip): boolean {
    const sent = this.#repliesTo.get(source) ?? 0;
    if (this.#replies >= COOKIE_REPLIES_MAX || sent >= COOKIE_REPLIES_PER_SOURCE_MAX) return false;
    // Bounded by COOKIE_REPLIES_MAX, every second anew.
    this.#repliesTo.set(source, sent + 1);
    this.#replies++;
    return true;
  }

  /** Under load, after a valid cookie: may this source's message be handled? Takes a token if so. */
  admit(source: Ip, now: Millis): boolean {
    if (this.#handled >= HANDSHAKES_MAX_UNDER_LOAD) return false;
    if (this.#sources.size >= SOURCES_MAX && !this.#sources.has(source)) this.#sources = new Map();
    const bucket = this.#sources.get(source) ?? new TokenBucket(SOURCE_MESSAGES_MAX);
    this.#sources.set(source, bucket);
    if (!bucket.spend(1, now)) return false;
    this.#handled++;
    return true;
  }
}
