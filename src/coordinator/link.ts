import { utf8 } from "../kit/bytes.js";
import type { Millis } from "../kit/time.js";
import type { Clock } from "../sys/clock.js";
import type { BinarySocket } from "../sys/websocket.js";
import { encodeControl, type ToDevice } from "../wire/control.js";
import type { Transport } from "../wire/noise.js";

/** A map that the device's end does not take in this time ends the link: the device has stopped reading. */
export const MAP_SEND_TIMEOUT_MS: Millis = 30_000;

/** Others' calls that wait for a device to read; further ones are dropped, as datagrams would be. */
export const CALLS_WAITING_MAX = 32;

/**
 * A member's connection, as the switchboard uses it. At most one map is on its way at any moment; what changes
 * meanwhile goes into the one after it, so that a slow device costs one map of memory and delays nobody.
 */
export class Link {
  readonly deviceId: string;
  readonly #socket: BinarySocket;
  readonly #transport: Transport;
  readonly #clock: Clock;
  #busy = false;
  #calls = 0;
  #wanted: (() => { text: string; version: number }) | undefined;
  /** The newest change the device has confirmed. */
  #confirmed = 0;
  #asked: { sentAt: number; version: number }[] = [];
  #waiting: { version: number; done: () => void }[] = [];
  #sentAt = 0;
  #sentVersion = 0;
  #sendingSince: Millis | undefined;
  readonly #over = new AbortController();

  constructor(deviceId: string, socket: BinarySocket, transport: Transport, clock: Clock) {
    this.deviceId = deviceId;
    this.#socket = socket;
    this.#transport = transport;
    this.#clock = clock;
  }

  /** True when the device has stopped reading. Asked now and then: a timer for every map would cost more than it. */
  isStuck(now: Millis): boolean {
    return this.#sendingSince !== undefined && now - this.#sendingSince >= MAP_SEND_TIMEOUT_MS;
  }

  get ended(): boolean {
    return this.#over.signal.aborted;
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

  /** Sends the map that `make` returns when its turn has come: now, or when the one under way has left. */
  push(make: () => { text: string; version: number }): void {
    this.#wanted = make;
    if (!this.#busy) void this.#drain();
  }

  /** Fulfilled when the device has confirmed a map of this version or a newer one, or the link has ended. */
  told(version: number): Promise<void> {
    if (this.#over.signal.aborted || this.#confirmed >= version) return Promise.resolve();
    return new Promise((done) => {
      this.#waiting.push({ version, done });
      if (!this.#busy && this.#sentVersion >= version) this.#ask();
    });
  }

  /** An answer to a ping: everything sent before the ping has been read. */
  pong(sentAt: number): void {
    const answered = this.#asked.find((ping) => ping.sentAt === sentAt);
    if (answered === undefined) return;
    this.#asked = this.#asked.filter((ping) => ping.version > answered.version);
    this.#confirmed = Math.max(this.#confirmed, answered.version);
    this.#release(this.#confirmed);
  }

  /** Ends the connection, with a refusal as the last word if there is one. */
  close(last?: ToDevice): void {
    if (this.#over.signal.aborted) return;
    if (last !== undefined) this.send(last);
    this.#socket.close();
    this.closed();
  }

  /** The connection has ended. */
  closed(): void {
    this.#over.abort();
    this.#release(Number.POSITIVE_INFINITY);
  }

  async #drain(): Promise<void> {
    this.#busy = true;
    while (this.#wanted !== undefined && !this.#over.signal.aborted) {
      const { text, version } = this.#wanted();
      this.#wanted = undefined;
      this.#sendingSince = this.#clock.now();
      await this.#write(utf8(text)).catch(() => undefined);
      this.#sendingSince = undefined;
      this.#sentVersion = version;
      if (this.#waiting.some((waiter) => waiter.version <= version)) this.#ask();
    }
    this.#busy = false;
  }

  #ask(): void {
    // Every ping has a number of its own, also two of one millisecond.
    this.#sentAt = Math.max(this.#clock.wall(), this.#sentAt + 1);
    this.#asked.push({ sentAt: this.#sentAt, version: this.#sentVersion });
    this.send({ type: "ping", sentAt: this.#sentAt });
  }

  #release(version: number): void {
    const released = this.#waiting.filter((waiter) => waiter.version <= version);
    this.#waiting = this.#waiting.filter((waiter) => waiter.version > version);
    for (const { done } of released) done();
  }

  #write(plaintext: Uint8Array): Promise<void> {
    return this.#socket.send(this.#transport.seal(plaintext));
  }
}
