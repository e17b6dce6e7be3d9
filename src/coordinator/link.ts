import { utf8 } from "../kit/bytes.js";
import type { Millis } from "../kit/time.js";
import type { Clock } from "../sys/clock.js";
import type { BinarySocket } from "../sys/websocket.js";
import { encodeControl, type ToDevice } from "../wire/control.js";
import type { Transport } from "../wire/noise.js";

/** News that the device's end does not take in this time ends the link: the device has stopped reading. */
export const MAP_SEND_TIMEOUT_MS: Millis = 30_000;

/** Others' calls that wait for a device to read; further ones are dropped, as datagrams would be. */
export const CALLS_WAITING_MAX = 32;

/** What a device's hello says of its end of the channel. */
export type LinkWant = {
  /** Deltas, `confirm` and seals; otherwise it gets whole maps. */
  readonly speaksDelta: boolean;
  /** The number of the map it has. */
  readonly haveSeq: number | undefined;
};

/** A map or a delta as JSON text; `confirm`: somebody waits to hear that it is in force. */
export type MakeNews = (confirm: boolean) => { readonly text: string; readonly seq: number } | undefined;

/**
 * A member's connection, as the switchboard uses it. At most one piece of news is on its way at any moment; what
 * changes meanwhile goes into the one after it, so that a slow device costs one map of memory and delays nobody.
 */
export class Link {
  readonly deviceId: string;
  readonly want: LinkWant;
  readonly #socket: BinarySocket;
  readonly #transport: Transport;
  readonly #clock: Clock;
  #busy = false;
  #calls = 0;
  #make: MakeNews | undefined;
  /** Whose news has not been made yet. */
  #asking: (() => void)[] = [];
  /** Whose news is on its way: by its number or, for a device that does not confirm, by that of the ping after it. */
  #waiting: { mark: number; done: () => void }[] = [];
  #pingedAt = 0;
  #sendingSince: Millis | undefined;
  #ended = false;

  constructor(
    deviceId: string,
    socket: BinarySocket,
    transport: Transport,
    clock: Clock,
    want: LinkWant = { speaksDelta: false, haveSeq: undefined },
  ) {
    this.deviceId = deviceId;
    this.want = want;
    this.#socket = socket;
    this.#transport = transport;
    this.#clock = clock;
  }

  /** True when the device has stopped reading. Asked now and then: a timer for every map would cost more than it. */
  isStuck(now: Millis): boolean {
    return this.#sendingSince !== undefined && now - this.#sendingSince >= MAP_SEND_TIMEOUT_MS;
  }

  get ended(): boolean {
    return this.#ended;
  }

  /** Nothing is on its way, and nothing waits for its turn. */
  get idle(): boolean {
    return !this.#busy;
  }

  send(message: ToDevice): void {
    this.#write(encodeControl(message)).catch(() => undefined); // the socket says so itself, by closing
  }

  /** Sends what another device says; false when too much of that kind waits already. */
  pass(call: Extract<ToDevice, { type: "call" }>): boolean {
    if (this.#calls >= CALLS_WAITING_MAX || this.ended) return false;
    this.#calls++;
    this.#write(encodeControl(call))
      .catch(() => undefined)
      .finally(() => this.#calls--);
    return true;
  }

  /** Sends what `make` returns when its turn has come: now, or when the news under way has left. */
  push(make: MakeNews): void {
    this.#make = make;
    if (!this.#busy) void this.#drain();
  }

  /** The same; fulfilled when the device has confirmed it, or the link has ended. */
  pushConfirmed(make: MakeNews): Promise<void> {
    if (this.#ended) return Promise.resolve();
    return new Promise((done) => {
      this.#asking.push(done);
      this.push(make);
    });
  }

  /** The device says that the news of that number is in force. */
  applied(seq: number): void {
    if (this.want.speaksDelta) this.#release(seq);
  }

  /** An answer to a ping: everything sent before the ping has been read. */
  pong(sentAt: number): void {
    if (!this.want.speaksDelta) this.#release(sentAt);
  }

  /** Ends the connection, with a refusal as the last word if there is one. */
  close(last?: ToDevice): void {
    if (this.#ended) return;
    if (last !== undefined) this.send(last);
    this.#socket.close();
    this.closed();
  }

  /** The connection has ended. */
  closed(): void {
    this.#ended = true;
    for (const done of this.#asking.splice(0)) done();
    this.#release(Number.POSITIVE_INFINITY);
  }

  async #drain(): Promise<void> {
    this.#busy = true;
    while (this.#make !== undefined && !this.#ended) {
      const make = this.#make;
      this.#make = undefined;
      const asking = this.#asking.splice(0);
      const news = make(asking.length > 0);
      if (news === undefined) {
        for (const done of asking) done();
        continue;
      }
      if (this.want.speaksDelta) this.#await(news.seq, asking);
      this.#sendingSince = this.#clock.now();
      await this.#write(utf8(news.text)).catch(() => undefined);
      this.#sendingSince = undefined;
      if (!this.want.speaksDelta && asking.length > 0) this.#ping(asking);
    }
    this.#busy = false;
  }

  #ping(asking: readonly (() => void)[]): void {
    // Every ping has a number of its own, also two of one millisecond.
    this.#pingedAt = Math.max(this.#clock.wall(), this.#pingedAt + 1);
    this.#await(this.#pingedAt, asking);
    this.send({ type: "ping", sentAt: this.#pingedAt });
  }

  #await(mark: number, asking: readonly (() => void)[]): void {
    for (const done of asking) this.#waiting.push({ mark, done });
  }

  #release(mark: number): void {
    if (this.#waiting.length === 0) return;
    const released = this.#waiting.filter((waiter) => waiter.mark <= mark);
    this.#waiting = this.#waiting.filter((waiter) => waiter.mark > mark);
    for (const { done } of released) done();
  }

  #write(plaintext: Uint8Array): Promise<void> {
    return this.#socket.send(this.#transport.seal(plaintext));
  }
}
