import type { Millis } from "../../kit/time.js";

/**
 * A router counts the seconds since it lost its mappings, and says so in every answer. A count that does not grow as
 * our clock does means that it has restarted, and that our mapping is gone (RFC 6886 §3.6, RFC 6887 §8.5).
 */
export type Epoch = { readonly seconds: number; readonly at: Millis };

export function isReset(previous: Epoch | undefined, current: Epoch): boolean {
  if (previous === undefined) return false;
  // RFC 6887 §8.5: a second back may be two answers that overtook each other.
  if (current.seconds + 1 < previous.seconds) return true;
  const ours = (current.at - previous.at) / 1_000;
  const theirs = current.seconds - previous.seconds;
  return ours + 2 < theirs - theirs / 16 || theirs + 2 < ours - ours / 16;
}
