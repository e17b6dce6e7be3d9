import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { mustRunProgram } from "./program.js";
import type { RootFile } from "./rootfs.js";

const TYPES = ["rsa", "ecdsa", "ed25519"] as const;

export type HostKey = { readonly name: string; readonly fingerprint: string; readonly files: readonly RootFile[] };

/** Makes the three SSH host keys of a new container, all at once: RSA takes longest, the others cost nothing more. */
export async function makeHostKeys(hostname: string, signal: AbortSignal): Promise<HostKey[]> {
  const folder = mkdtempSync(join(tmpdir(), "exn-hostkeys-"));
  try {
    return await Promise.all(TYPES.map((type) => makeHostKey(folder, type, hostname, signal)));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function makeHostKey(folder: string, type: string, hostname: string, signal: AbortSignal): Promise<HostKey> {
  const name = `ssh_host_${type}_key`;
  const path = join(folder, name);
  const argv = ["/usr/bin/ssh-keygen", "-t", type, "-N", "", "-E", "sha256", "-C", `root@${hostname}`, "-f", path];
  const { stdout } = await mustRunProgram(argv, { signal });
  const fingerprint = stdout.split("\n").find((line) => line.startsWith("SHA256:"));
  if (fingerprint === undefined) throw new Error(`ssh-keygen printed no fingerprint for ${name}`);
  return {
    name,
    fingerprint,
    files: [
      { path: `/etc/ssh/${name}`, content: readFileSync(path, "utf8"), mode: 0o600 },
      { path: `/etc/ssh/${name}.pub`, content: readFileSync(`${path}.pub`, "utf8"), mode: 0o644 },
    ],
  };
}
