import type { Millis } from "../kit/time.js";
import type { Clock } from "../sys/clock.js";

/** Devices that a receipt names. */
export const RECEIPT_DEVICES_MAX = 100;
/** Revocations of which something was told and nobody has asked yet. */
const REVOCATIONS_MAX = 256;

/** How far a revocation has got with the devices of one coordinator, or of all. */
export type Receipt = {
  readonly peers: number;
  readonly confirmed: number;
  readonly tookMs: Millis;
  /** When each has confirmed, the slowest first; of many, RECEIPT_DEVICES_MAX. */
  readonly devices: { name: string; ms: Millis }[];
  /** Connected ones that have not confirmed; of many, RECEIPT_DEVICES_MAX. */
  readonly silent: string[];
};

/** Of several coordinators' devices together. */
export function sumOf(receipts: readonly Receipt[]): Receipt {
  return {
    peers: receipts.reduce((sum, { peers }) => sum + peers, 0),
    confirmed: receipts.reduce((sum, { confirmed }) => sum + confirmed, 0),
    tookMs: Math.max(...receipts.map(({ tookMs }) => tookMs)),
    devices: receipts
      .flatMap(({ devices }) => devices)
      .sort((a, b) => b.ms - a.ms)
      .slice(0, RECEIPT_DEVICES_MAX),
    silent: receipts.flatMap(({ silent }) => silent).slice(0, RECEIPT_DEVICES_MAX),
  };
}

/** What other coordinators tell of revocations, kept until it is asked for. */
export class Receipts {
  readonly #clock: Clock;
  /** By device and coordinator. */
  readonly #told = new Map<string, Map<string, Receipt>>();
  readonly #watchers = new Set<() => void>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  put(deviceId: string, coordinator: string, receipt: Receipt): void {
    const told = this.#told.get(deviceId) ?? new Map<string, Receipt>();
    this.#told.set(deviceId, told.set(coordinator, receipt));
    const oldest = this.#told.keys().next().value;
    if (oldest !== undefined && this.#told.size > REVOCATIONS_MAX) this.#told.delete(oldest);
    this.look();
  }

  /** Whoever waits looks whether those that are missing still live. */
  look(): void {
    for (const look of [...this.#watchers]) look();
  }

  /** What these coordinators tell of a device's revocation within the time; one that has died is not waited for. */
  async of(
    deviceId: string,
    coordinators: readonly string[],
    isLive: (coordinator: string) => boolean,
    timeoutMs: Millis,
  ): Promise<{ receipts: Receipt[]; unheard: number }> {
    const unheard = (): string[] => coordinators.filter((one) => this.#told.get(deviceId)?.has(one) !== true);
    const deadline = new AbortController();
    const all = new Promise<void>((resolve) => {
      const look = (): void => {
        if (unheard().every((one) => !isLive(one))) resolve();
      };
      this.#watchers.add(look);
      deadline.signal.addEventListener("abort", () => this.#watchers.delete(look));
      look();
    });
    await Promise.race([all, this.#clock.sleep(timeoutMs, deadline.signal).catch(() => undefined)]);
    deadline.abort();
    const told = { receipts: [...(this.#told.get(deviceId)?.values() ?? [])], unheard: unheard().length };
    this.#told.delete(deviceId);
    return told;
  }
}
