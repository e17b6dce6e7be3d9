import { type Millis, SECOND } from "../kit/time.js";
import type { ByteStream } from "../sys/bytestream.js";
import type { Clock } from "../sys/clock.js";
import type { DialStream } from "../sys/streamdial.js";
import type { MapRelay } from "../wire/map.js";

/** A URL that has not answered by then is not waited for alone: the next one is dialed as well (RFC 8305 §5). */
export const NEXT_URL_AFTER_MS: Millis = SECOND;

/** Every way to a relay, the one for strangers first. */
export const urlsOf = ({ url, urls = [] }: MapRelay): string[] => [...new Set([url, ...urls])];

/**
 * Dials one relay that has several URLs: a home's own devices may not get to it by the public one, because their router
 * does not lead back in. What opens first is taken, and stays first when it proves to be the relay.
 */
export class RelayDialer {
  readonly #dial: DialStream;
  readonly #clock: Clock;
  #urls: readonly string[];
  /** Opened, and not yet known to be the relay. */
  #opened: string | undefined;

  constructor(dial: DialStream, clock: Clock, urls: readonly string[]) {
    this.#dial = dial;
    this.#clock = clock;
    this.#urls = urls;
  }

  /** The one that is tried first. */
  get first(): string {
    return this.#urls[0] ?? "";
  }

  /** Takes the path of `target` at each of the relay's URLs. */
  readonly dial: DialStream = async (target, options) => {
    const { pathname } = new URL(target);
    this.#opened = undefined;
    // One per attempt, and never the winner's: what ended a request would end the connection that came of it.
    const attempts = new Map<string, AbortController>();
    const over = new AbortController();
    const open = async (url: string): Promise<ByteStream> => {
      const lost = new AbortController();
      attempts.set(url, lost);
      const signal = AbortSignal.any([options.signal, lost.signal]);
      const stream = await this.#dial(new URL(pathname, url).href, { ...options, signal });
      if (over.signal.aborted) stream.terminate();
      else {
        this.#opened = url;
        over.abort();
        for (const [other, attempt] of attempts) if (other !== url) attempt.abort();
      }
      return stream;
    };
    return this.#openFrom(this.#urls, open, AbortSignal.any([options.signal, over.signal]));
  };

  /** What was opened last has proved to be the relay, or has not: then it is tried last. */
  settle(isRelay: boolean): void {
    const url = this.#opened;
    if (url === undefined) return;
    this.#opened = undefined;
    const others = this.#urls.filter((one) => one !== url);
    this.#urls = isRelay ? [url, ...others] : [...others, url];
  }

  async #openFrom(
    [url = "", ...others]: readonly string[],
    open: (url: string) => Promise<ByteStream>,
    over: AbortSignal,
  ): Promise<ByteStream> {
    const mine = open(url);
    if (others.length === 0) return mine;
    const settled = new AbortController();
    const late = this.#clock.sleep(NEXT_URL_AFTER_MS, AbortSignal.any([settled.signal, over]));
    const early = await Promise.race([mine, late]).catch(() => undefined);
    settled.abort();
    if (early !== undefined || over.aborted) return mine;
    // When all fail it is the first one's reason that is told: it is the URL that people know.
    return Promise.any([mine, this.#openFrom(others, open, over)]).catch(() => mine);
  }
}
