import { asFailure } from "../kit/failure.js";
import type { Log } from "../sys/log.js";
import { notifySystemd, startWatchdog } from "../sys/notify.js";

/** Runs a service until SIGTERM or SIGINT, telling systemd how it goes; the exit code. */
export async function runService(log: Log, open: () => Promise<{ close(): Promise<void> }>): Promise<number> {
  const stop = new AbortController();
  const stopped = new Promise<void>((resolve) => {
    stop.signal.addEventListener("abort", () => resolve(), { once: true });
  });
  for (const name of ["SIGTERM", "SIGINT"] as const) process.on(name, () => stop.abort());
  try {
    const service = await open();
    await notifySystemd("READY=1");
    startWatchdog(() => true, stop.signal);
    await stopped;
    await notifySystemd("STOPPING=1");
    await service.close();
    return 0;
  } catch (error) {
    const { code, message, advice } = asFailure(error);
    log.error(message, { code, advice });
    return 1;
  }
}
