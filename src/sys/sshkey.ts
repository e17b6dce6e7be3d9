import { createHash } from "node:crypto";
import { join } from "node:path";
import ssh2 from "ssh2";
import { Failure } from "../kit/failure.js";
import type { Files } from "./files.js";

/** The key pair with which this administrator enters containers; the private half never leaves its file. */
export type SshKeyPair = {
  /** OpenSSH's own format, so that `ssh -i` reads the file too. */
  readonly privateKey: string;
  /** One line, as in authorized_keys. */
  readonly publicKey: string;
};

export const KEY_FILE = "ssh_ed25519";

/** Reads the pair from the folder, or makes it once: an ed25519 key in a file of mode 0600. */
export async function ensureSshKey(files: Files, folder: string): Promise<SshKeyPair> {
  const path = join(folder, KEY_FILE);
  const kept = await files.readText(path);
  if (kept !== undefined) return pairOf(kept, path);
  const made = readableKey();
  await files.write(path, made, { mode: 0o600 });
  const pair = pairOf(made, path);
  await files.write(`${path}.pub`, `${pair.publicKey}\n`);
  return pair;
}

/** One in some three hundred that ssh2 makes is written a byte short, and nobody can read it: then another is made. */
function readableKey(): string {
  for (let left = MAKE_TRIES; ; left--) {
    const made = ssh2.utils.generateKeyPairSync("ed25519", { comment: "exitnode" }).private;
    if (left === 1 || !(ssh2.utils.parseKey(made) instanceof Error)) return made;
  }
}
const MAKE_TRIES = 8;

/** "SHA256:…" as `ssh-keygen -l` prints it and Proxmox logs it: unpadded base64 of the hash of the key's blob. */
export function sshFingerprint(blob: Uint8Array): string {
  return `SHA256:${createHash("sha256").update(blob).digest("base64").replace(/=+$/, "")}`;
}

function pairOf(text: string, path: string): SshKeyPair {
  const key = ssh2.utils.parseKey(text);
  if (key instanceof Error || Array.isArray(key))
    throw new Failure("ssh-key-invalid", `${path} is not an OpenSSH private key without a passphrase`, {
      advice: `move ${path} away and run the command again: a new key is made; existing exit nodes know only the old one`,
    });
  return { privateKey: text, publicKey: `ssh-ed25519 ${key.getPublicSSH().toString("base64")} exitnode` };
}
