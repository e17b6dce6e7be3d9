import type { Millis } from "../kit/time.js";
import {
  BIRTHDAY_PAUSE_MS,
  BIRTHDAY_SOCKETS,
  type Birthday,
  type BirthdaySend,
  EasySide,
  HardSide,
} from "./birthday.js";
import { publicFours, type Standing } from "./obstacle.js";
import type { PathEffect } from "./path.js";

/** Whether ports are guessed now, and the extra sockets that are open for it. At most one attempt per peer at a time. */
export class Guessing {
  readonly #random: (length: number) => Uint8Array;
  #birthday: Birthday | undefined;
  #notBefore: Millis = -Infinity;
  #nextSocket = 0;
  #socketsOpen = false;

  constructor(random: (length: number) => Uint8Array) {
    this.#random = random;
  }

  get deadline(): Millis {
    return this.#birthday === undefined ? Infinity : Math.min(this.#birthday.deadline, this.#birthday.endsAt);
  }

  /** Something has changed since the last attempt failed: the pause is over. */
  allow(): void {
    this.#notBefore = -Infinity;
  }

  /** Begins when exactly one side is hard and the other is known to be easier. */
  begin(here: Standing, there: Standing, now: Millis): PathEffect[] {
    const targets = publicFours(there.endpoints);
    const [target] = targets;
    if (this.#birthday !== undefined || now < this.#notBefore || target === undefined) return [];
    if (here.nat === "hard" && isEasy(there)) {
      const first = this.#nextSocket;
      this.#nextSocket += BIRTHDAY_SOCKETS;
      this.#socketsOpen = true;
      this.#birthday = new HardSide(target, first, now);
      return [{ kind: "open-sockets", first, count: BIRTHDAY_SOCKETS }];
    }
    // Two at most: a NAT with a pool of addresses (RFC 4787 §4.1, "paired" or not) halves the chance for each.
    const addresses = [...new Set(targets.map(({ address }) => address))].slice(0, 2);
    if (there.nat === "hard" && isEasy(here)) this.#birthday = new EasySide(addresses, this.#random, now);
    return [];
  }

  /** The pings to send now. An attempt that has found nothing in its time ends here. */
  tick(now: Millis): { readonly sends: readonly BirthdaySend[]; readonly effects: readonly PathEffect[] } {
    if (this.#birthday === undefined) return { sends: [], effects: [] };
    if (now < this.#birthday.endsAt) return { sends: this.#birthday.tick(now), effects: [] };
    this.#notBefore = now + BIRTHDAY_PAUSE_MS;
    return { sends: [], effects: this.end([]) };
  }

  /** Ends the attempt; every socket but `keep` is closed. */
  end(keep: readonly number[]): PathEffect[] {
    this.#birthday = undefined;
    if (!this.#socketsOpen) return [];
    this.#socketsOpen = keep.length > 0;
    return [{ kind: "keep-sockets", sockets: keep }];
  }
}

const isEasy = ({ nat }: Standing): boolean => nat === "easy" || nat === "open";
