import { MINUTE, type Millis } from "../kit/time.js";

/** A round trip to a relay, measured at some time. */
export type RelayLatency = { readonly relay: string; readonly roundTripMs: Millis; readonly at: Millis };

/** Older measurements count for nothing. */
export const LATENCY_AGE_MAX_MS: Millis = 5 * MINUTE;
/** A new home must be nearer by so much, and by a third: a home that flaps costs every peer a detour. */
export const HOME_GAIN_MS: Millis = 10;
export const HOME_SHARE_MAX = 2 / 3;

/**
 * The relay where the others look for this device: the nearest by the best measurement of the last minutes, kept until
 * another is nearer by HOME_GAIN_MS and by HOME_SHARE_MAX. Without any measurement of it the old one stays, as long as
 * nothing else was measured either.
 */
export function chooseHome(
  current: string | undefined,
  latencies: readonly RelayLatency[],
  now: Millis,
): string | undefined {
  const best = new Map<string, Millis>();
  for (const { relay, roundTripMs, at } of latencies)
    if (now - at <= LATENCY_AGE_MAX_MS) best.set(relay, Math.min(best.get(relay) ?? roundTripMs, roundTripMs));
  let nearest: string | undefined;
  for (const [relay, ms] of best) if (nearest === undefined || ms < (best.get(nearest) ?? ms)) nearest = relay;
  if (nearest === undefined || current === undefined) return nearest ?? current;
  const [old, found] = [best.get(current), best.get(nearest)];
  if (old === undefined || found === undefined) return nearest;
  return old - found >= HOME_GAIN_MS && found < old * HOME_SHARE_MAX ? nearest : current;
}
