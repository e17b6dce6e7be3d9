/** For what only a bug of ours can break; the world's faults are Failures or return values. */
export function assert(condition: unknown, reason: string): asserts condition {
  if (!condition) throw new Error(`assertion broken: ${reason}`);
}

/** The `default` of an exhaustive switch. */
export function unreachable(value: never): never {
  throw new Error(`unreachable case: ${String(value)}`);
}
