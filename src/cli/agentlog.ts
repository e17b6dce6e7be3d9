import { constants, fstatSync, ftruncateSync, openSync, readSync, writeSync } from "node:fs";
import { type Millis, SECOND } from "../kit/time.js";

/** Where an agent without systemd writes what it does: some lines a day when it is well, thousands when it is not. */
export const AGENT_LOG = "agent.log";
export const LOG_BYTES_MAX = 1024 * 1024;
/** What is kept of a log that is too long: its end. */
export const LOG_BYTES_KEPT = LOG_BYTES_MAX / 4;
export const LOG_LOOK_MS: Millis = 10 * SECOND;

export function openAgentLog(path: string): number {
  // The folder is the agent's: root follows no link that is put there.
  const { O_APPEND, O_CREAT, O_NOFOLLOW, O_RDWR } = constants;
  return openSync(path, O_APPEND | O_CREAT | O_NOFOLLOW | O_RDWR, 0o640);
}

/**
 * Leaves whole lines of the end of a log that is too long. Whoever writes to it meanwhile appends, also through another
 * descriptor; a line written at that moment may be lost.
 */
export function boundLog(log: number): void {
  const { size } = fstatSync(log);
  if (size <= LOG_BYTES_MAX) return;
  const end = Buffer.alloc(LOG_BYTES_KEPT);
  const kept = end.subarray(0, readSync(log, end, 0, end.length, size - end.length));
  ftruncateSync(log);
  writeSync(log, kept.subarray(kept.indexOf("\n") + 1));
}
