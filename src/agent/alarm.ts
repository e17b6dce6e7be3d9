import type { Millis } from "../kit/time.js";
import type { Clock } from "../sys/clock.js";

/** One timer for something with deadlines: it rings at the earliest that was asked for, and then has to be asked again. */
export class Alarm {
  readonly #clock: Clock;
  readonly #ring: () => void;
  #armed: { readonly at: Millis; readonly cancel: AbortController } | undefined;

  constructor(clock: Clock, ring: () => void) {
    this.#clock = clock;
    this.#ring = ring;
  }

  /** Rings then, unless it rings before that already. */
  by(at: Millis | undefined): void {
    if (at === undefined || at === Infinity || (this.#armed !== undefined && this.#armed.at <= at)) return;
    this.stop();
    const armed = { at, cancel: new AbortController() };
    this.#armed = armed;
    this.#clock.sleep(Math.max(0, Math.ceil(at - this.#clock.now())), armed.cancel.signal).then(
      () => {
        if (this.#armed !== armed) return;
        this.#armed = undefined;
        this.#ring();
      },
      () => undefined, // called off
    );
  }

  stop(): void {
    this.#armed?.cancel.abort();
    this.#armed = undefined;
  }
}
