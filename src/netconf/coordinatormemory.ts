/** What a coordinator's unit allows it; docs/coordinator.md says how many devices that is. */
export type CoordinatorMemory = {
  /** From there on the kernel takes memory back and the coordinator slows down. */
  readonly highMiB: number;
  /** V8's heap, the rest being connections and code. */
  readonly heapMiB: number;
  /** V8's space for what is new. A larger one is collected less often, and stays resident. */
  readonly youngMiB: number;
};

/** In a container of 512 MB the agent has as much. */
const SHARE = { beside: 7 / 16, alone: 5 / 8 };
const HIGH_MIB_MIN = 224;
/** As many devices as a network may have take no more. */
const HIGH_MIB_MAX = 2_048;
const HEAP_SHARE = 5 / 7;
/** With less than this every megabyte counts. */
const ROOMY_MIB = 512;

/** `beside`: an agent runs on the same machine. */
export function coordinatorMemory(machineMiB: number, beside: boolean): CoordinatorMemory {
  const share = machineMiB * (beside ? SHARE.beside : SHARE.alone);
  const highMiB = Math.floor(Math.min(HIGH_MIB_MAX, Math.max(HIGH_MIB_MIN, share)));
  return { highMiB, heapMiB: Math.floor(highMiB * HEAP_SHARE), youngMiB: highMiB < ROOMY_MIB ? 1 : 16 };
}
