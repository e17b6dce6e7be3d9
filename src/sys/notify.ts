import { execFile } from "node:child_process";

/**
 * What a daemon tells systemd (sd_notify(3)): "READY=1", "WATCHDOG=1", "STOPPING=1", "STATUS=…".
 *
 * Node opens no Unix datagram socket, so `systemd-notify` of the systemd package speaks for us; the unit needs
 * `NotifyAccess=all`, for the sender is then a child. Outside systemd (no NOTIFY_SOCKET) nothing happens, and a
 * notification that cannot be sent is no reason to stop: systemd itself acts on a missing one. Not through exec.ts, whose
 * library stays in memory for the one word that a relay says every half minute.
 */
export async function notifySystemd(state: string): Promise<void> {
  if (process.env.NOTIFY_SOCKET === undefined) return;
  await new Promise<void>((resolve) => {
    execFile("systemd-notify", [state], { timeout: NOTIFY_TIMEOUT_MS }, () => resolve());
  });
}

const NOTIFY_TIMEOUT_MS = 5_000;

/** Half of the unit's WatchdogSec, the interval systemd recommends (sd_watchdog_enabled(3)); undefined without one. */
function watchdogIntervalMs(): number | undefined {
  const deadlineUs = Number(process.env.WATCHDOG_USEC);
  return Number.isFinite(deadlineUs) && deadlineUs > 0 ? deadlineUs / 2_000 : undefined;
}

/**
 * Says WATCHDOG=1 until `signal` aborts, as long as `alive()` answers true: a daemon that still runs its event loop
 * but has lost its work stays silent and is restarted.
 */
export function startWatchdog(alive: () => boolean, signal: AbortSignal): void {
  const intervalMs = watchdogIntervalMs();
  if (intervalMs === undefined || signal.aborted) return;
  const timer = setInterval(() => {
    if (alive()) void notifySystemd("WATCHDOG=1");
  }, intervalMs);
  timer.unref();
  signal.addEventListener("abort", () => clearInterval(timer), { once: true });
}
