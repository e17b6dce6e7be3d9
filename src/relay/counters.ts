import type { OutboxKind } from "./outbox.js";

/** What a relay counts; metrics.ts writes it for Prometheus. */
export class Counters {
  logins = 0;
  forwardedFrames = 0;
  forwardedBytes = 0;
  probeFrames = 0;
  unknownDestination = 0;
  malformed = 0;
  oversized = 0;
  revocations = 0;
  rateHolds = 0;
  dialBacks = 0;
  readonly dropped: Record<OutboxKind, number> = { data: 0, probe: 0, note: 0 };
  /** By the word the device was given. */
  readonly refused = new Map<string, number>();
  readonly cut = new Map<string, number>();
}

export function countIn(map: Map<string, number>, word: string): void {
  map.set(word, (map.get(word) ?? 0) + 1);
}
