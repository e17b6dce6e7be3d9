import type { Millis } from "../kit/time.js";
import type { Clock } from "../sys/clock.js";

/** Changes of one transaction; further ones are in the next. */
export const CHANGES_AT_ONCE_MAX = 64;
/** Waiting for neighbours takes so many times as long as the last transaction did, and never longer than this. */
const GATHER_SHARE = 9;
export const GATHER_MAX_MS: Millis = 50;

/** A change that may share its transaction with its neighbours. */
export type Change<Turn, T> = {
  /** The answer, where nothing is to be written; asked in turn. */
  readonly look?: () => T | undefined;
  readonly decide: (turn: Turn) => Promise<T>;
};

/** Runs decisions in one transaction, where each lasts or fails by itself. Rejected: none of them lasts. */
export type Commit<Turn> = (
  decisions: readonly ((turn: Turn) => Promise<unknown>)[],
) => Promise<readonly PromiseSettledResult<unknown>[]>;

type Answer = { resolve(value: unknown): void; reject(reason: unknown): void };
type Alone = Answer & { readonly alone: () => Promise<unknown> };
type Waiting<Turn> = Alone | (Answer & { readonly change: Change<Turn, unknown> });

/**
 * Changes, one after the other in the order in which they came. Those that come in storms share a transaction (group
 * commit), and so one wait for the disk; each is answered when it lasts. A change that comes alone waits for nothing.
 */
export class CommitQueue<Turn> {
  readonly #clock: Pick<Clock, "now" | "sleep">;
  readonly #commit: Commit<Turn>;
  readonly #waiting: Waiting<Turn>[] = [];
  #running = false;
  #gatherUntil: Millis = 0;
  #hurry = new AbortController();

  constructor(clock: Pick<Clock, "now" | "sleep">, commit: Commit<Turn>) {
    this.#clock = clock;
    this.#commit = commit;
  }

  /** Does `alone` when everything before it is done, and nothing beside it. */
  alone<T>(alone: () => Promise<T>): Promise<T> {
    return new Promise<T>((resolve, reject) =>
      this.#add({ alone: async () => alone(), resolve: (value) => resolve(value as T), reject }, true),
    );
  }

  together<T>(change: Change<Turn, T>): Promise<T> {
    return new Promise<T>((resolve, reject) =>
      this.#add({ change, resolve: (value) => resolve(value as T), reject }, false),
    );
  }

  #add(one: Waiting<Turn>, urgent: boolean): void {
    this.#waiting.push(one);
    if (urgent || this.#waiting.length >= CHANGES_AT_ONCE_MAX) this.#hurry.abort();
    if (!this.#running) void this.#run();
  }

  async #run(): Promise<void> {
    this.#running = true;
    for (let first = this.#waiting[0]; first !== undefined; first = this.#waiting[0]) {
      if ("alone" in first) {
        this.#waiting.shift();
        await first.alone().then(first.resolve, first.reject);
      } else {
        await this.#gather();
        await this.#runTogether();
      }
    }
    this.#running = false;
  }

  async #gather(): Promise<void> {
    const pauseMs = this.#gatherUntil - this.#clock.now();
    const isUrgent = this.#waiting.length >= CHANGES_AT_ONCE_MAX || this.#waiting.some((one) => "alone" in one);
    if (pauseMs <= 0 || isUrgent) return;
    this.#hurry = new AbortController();
    await this.#clock.sleep(pauseMs, this.#hurry.signal).catch(() => undefined);
  }

  async #runTogether(): Promise<void> {
    const batch: (Answer & { readonly change: Change<Turn, unknown> })[] = [];
    const startedAt = this.#clock.now();
    try {
      while (batch.length < CHANGES_AT_ONCE_MAX) {
        const [next] = this.#waiting;
        if (next === undefined || "alone" in next) break;
        batch.push(next);
        this.#waiting.shift();
        // After others' decisions the answer may be another one.
        const known = batch.length === 1 ? next.change.look?.() : undefined;
        if (known === undefined) continue;
        batch.pop();
        next.resolve(known);
      }
      if (batch.length === 0) return;
      const results = await this.#commit(batch.map(({ change }) => change.decide));
      for (const [i, result] of results.entries())
        if (result.status === "fulfilled") batch[i]?.resolve(result.value);
        else batch[i]?.reject(result.reason);
    } catch (error) {
      for (const { reject } of batch) reject(error);
    }
    const now = this.#clock.now();
    this.#gatherUntil = now + Math.min(GATHER_MAX_MS, GATHER_SHARE * (now - startedAt));
  }
}
