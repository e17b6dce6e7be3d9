/**
 * The SSH host key of a new container, from the log of the task that created it (pve-container prints, in random
 * order, for each kind of key):
 *
 *   Creating SSH host key 'ssh_host_ed25519_key' - this may take some time ...
 *   done: SHA256:byYAwfZL50qjC+C2jZ2MZiQ0QTTYVe1QovSWRbFkSZc root@exit1
 */
export function hostKeyIn(log: readonly string[]): string | undefined {
  const at = log.findIndex((line) => line.includes("'ssh_host_ed25519_key'"));
  if (at < 0) return undefined;
  return /^done: (SHA256:[A-Za-z0-9+/]{43})\s/.exec(`${log[at + 1] ?? ""} `)?.[1];
}
