import { join } from "node:path";
import {
  isSignedBy,
  parsePrivateKey,
  privateKeyText,
  publicKeyOf,
  publicKeyText,
  signManifest,
  tryPublicKey,
} from "../appliance/signature.js";
import { Failure } from "../kit/failure.js";
import type { Key } from "../kit/key.js";
import type { Parts } from "./command.js";

/** The key with which this administrator signs templates: its private half never leaves its file in the config folder. */

const KEY_FILE = "appliance_ed25519";
const SEED_BYTES = 32;

type KeyParts = Pick<Parts, "files" | "paths" | "random">;

/** Reads the key, or makes it once: PEM, mode 0600, with the public half beside it. */
export async function ensureSigningKey({
  files,
  paths,
  random,
}: KeyParts): Promise<{ seed: Uint8Array; publicKey: Key }> {
  const path = join(paths.config, KEY_FILE);
  const kept = await files.readText(path);
  const seed = kept === undefined ? random(SEED_BYTES) : parsePrivateKey(kept, path);
  const publicKey = publicKeyOf(seed);
  if (kept === undefined) {
    await files.write(path, privateKeyText(seed), { mode: 0o600 });
    await files.write(`${path}.pub`, publicKeyText(publicKey));
  }
  return { seed, publicKey };
}

/** Signs the template's manifest, unless this key has done so already. */
export async function signAppliance(parts: KeyParts, path: string): Promise<Key> {
  const { seed, publicKey } = await ensureSigningKey(parts);
  const manifest = await parts.files.read(`${path}.json`);
  if (manifest === undefined)
    throw new Failure("manifest-missing", `there is no manifest ${path}.json to sign`, {
      advice: "exitnode appliance build",
    });
  const before = await parts.files.read(`${path}.json.sig`);
  if (before === undefined || !isSignedBy(publicKey, manifest, before))
    await parts.files.write(`${path}.json.sig`, signManifest(seed, manifest));
  return publicKey;
}

/** The key to verify with: as given (its text, or a PEM file), else this administrator's own. */
export async function verifyingKey({ files, paths }: KeyParts, given: unknown): Promise<Key> {
  const path = typeof given === "string" ? given : join(paths.config, `${KEY_FILE}.pub`);
  const text =
    typeof given === "string" ? (tryPublicKey(given) ?? (await files.readText(path))) : await files.readText(path);
  if (text === undefined)
    throw new Failure(
      "public-key-missing",
      typeof given === "string"
        ? `--public-key must be 44 base64 characters or a PEM file, got "${given.slice(0, 100)}"`
        : `this machine has signed no template: there is no ${path}`,
      { advice: "exitnode appliance verify <file> --public-key <KEY of who built it>" },
    );
  const key = tryPublicKey(text);
  if (key !== undefined) return key;
  throw new Failure("public-key-invalid", `${path} is not an Ed25519 public key in PEM`, {
    advice: "exitnode appliance verify <file> --public-key <KEY of who built it>",
  });
}
