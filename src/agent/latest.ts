/**
 * Runs one task at a time and, when asked again meanwhile, once more afterwards: many changes in a row cost two runs,
 * and the last one always sees the newest state.
 */
export function latestOnly(task: () => Promise<void>): () => Promise<void> {
  let running: Promise<void> | undefined;
  let next: Promise<void> | undefined;
  const start = (): Promise<void> => {
    running = task().finally(() => {
      running = undefined;
    });
    return running;
  };
  return () => {
    if (running === undefined) return start();
    next ??= running
      .catch(() => undefined) // the run that failed told its own caller
      .then(() => {
        next = undefined;
        return start();
      });
    return next;
  };
}
