import { asFailure, Failure } from "../../kit/failure.js";
import { formatDuration, type Millis } from "../../kit/time.js";
import type { Clock } from "../../sys/clock.js";

/** What a look takes of the world so that it can be given up. */
export type Watch = { readonly clock: Clock; readonly signal: AbortSignal };

export type Answer<T> = { readonly value: T } | { readonly failure: Failure };

/** The work's value, or why there is none: a part that does not answer in time is an answer about that part. */
export async function within<T>(
  { clock, signal }: Watch,
  limitMs: Millis,
  what: string,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<Answer<T>> {
  const over = new AbortController();
  const late = clock.sleep(limitMs, over.signal).then(() => {
    throw new Failure("look-deadline", `${what} did not answer within ${formatDuration(limitMs)}`, {
      advice: "is it up, and is this machine in a network that reaches it? then once more: exitnode doctor",
    });
  });
  try {
    return { value: await Promise.race([work(AbortSignal.any([signal, over.signal])), late]) };
  } catch (error) {
    // Interrupted by a person, it is the end of everything.
    if (signal.aborted) throw error;
    return { failure: asFailure(error) };
  } finally {
    over.abort();
  }
}
