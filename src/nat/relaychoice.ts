import type { Millis } from "../kit/time.js";

/**
 * Which relay is a device's home: the nearest, but no hopping between two that are alike, because every change has to
 * be told to all peers.
 */
export type RelayLatency = { readonly relay: string; readonly roundTripMs: Millis };

/** Both must hold for a change: an absolute gain and a relative one. */
const HOME_GAIN_MIN_MS: Millis = 10;
const HOME_GAIN_MIN_RATIO = 2 / 3;
/** Latencies older than this are history. */
const LATENCY_MEMORY_MS: Millis = 5 * 60_000;
const LATENCIES_MAX = 64;

/** Best latency per relay of the last five minutes. */
export class RelayLatencies {
  #seen: { readonly relay: string; readonly roundTripMs: Millis; readonly at: Millis }[] = [];

  add(relay: string, roundTripMs: Millis, now: Millis): void {
    this.#seen = this.#seen.filter(({ at }) => now - at < LATENCY_MEMORY_MS).slice(1 - LATENCIES_MAX);
    this.#seen.push({ relay, roundTripMs, at: now });
  }

  best(now: Millis): RelayLatency[] {
    const best = new Map<string, Millis>();
    for (const { relay, roundTripMs, at } of this.#seen)
      if (now - at < LATENCY_MEMORY_MS) best.set(relay, Math.min(roundTripMs, best.get(relay) ?? Infinity));
    return [...best].map(([relay, roundTripMs]) => ({ relay, roundTripMs }));
  }
}

/**
 * The home relay, given the one there is. Without any latency, and while the coordinator is away (peers could not
 * learn of a change), it stays. A home that has no latency any more is left for one that has.
 */
export function chooseHome(
  latencies: readonly RelayLatency[],
  home: string | undefined,
  coordinatorReachable: boolean,
): string | undefined {
  const [nearest] = [...latencies].sort((left, right) => left.roundTripMs - right.roundTripMs);
  if (nearest === undefined || (home !== undefined && !coordinatorReachable)) return home;
  const current = latencies.find(({ relay }) => relay === home);
  if (current === undefined) return nearest.relay;
  const gain = current.roundTripMs - nearest.roundTripMs;
  const isWorth = gain >= HOME_GAIN_MIN_MS && nearest.roundTripMs < current.roundTripMs * HOME_GAIN_MIN_RATIO;
  return isWorth ? nearest.relay : home;
}
