import { type Millis, SECOND } from "../../kit/time.js";
import type { Exec } from "../../sys/exec.js";
import type { Files } from "../../sys/files.js";

/** There where systemd-resolved runs, or has run since the machine started. */
const RESOLVED_RUN = "/run/systemd/resolve";
/** Starting the program alone may take seconds where much else is done. */
const FLUSH_TIMEOUT_MS: Millis = 10 * SECOND;

/**
 * The machine's own cache forgets what it was answered: systemd-resolved keeps answers up to two hours, and to it the
 * way they came has not changed. Any user may ask it to (its FlushCaches is unprivileged). What does not answer in time
 * is left: old answers end by themselves, and are no reason for a tunnel not to work.
 */
export async function forgetAnswers({ exec, files }: { readonly exec: Exec; readonly files: Files }): Promise<void> {
  const kept = await files.list(RESOLVED_RUN).catch(() => []);
  if (kept.length > 0) await exec.run(["resolvectl", "flush-caches"], { timeoutMs: FLUSH_TIMEOUT_MS }).catch(ignored);
}

const ignored = (): undefined => undefined;
