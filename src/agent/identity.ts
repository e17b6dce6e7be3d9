import { type KeyPair, keyPairOf } from "../kit/crypto.js";
import { Failure } from "../kit/failure.js";
import { type Key, keyBytes, keyOf, tryKey } from "../kit/key.js";
import type { Files } from "../sys/files.js";
import type { Random } from "../sys/random.js";
import { DEVICE_FILES } from "../wire/agentconfig.js";

/** The two keys of a device, made at its first start: one proves the machine to the coordinator, one is WireGuard's. */
export type Identity = { readonly machine: KeyPair; readonly wireguardKey: Key; readonly publicKey: Key };

export async function loadIdentity(files: Files, random: Random, folder: string): Promise<Identity> {
  const machine = await loadKey(files, random, `${folder}/${DEVICE_FILES.machineKey}`);
  const wireguardKey = await loadKey(files, random, `${folder}/${DEVICE_FILES.wireguardKey}`);
  return {
    machine: keyPairOf(keyBytes(machine)),
    wireguardKey,
    publicKey: keyOf(keyPairOf(keyBytes(wireguardKey)).publicKey),
  };
}

async function loadKey(files: Files, random: Random, path: string): Promise<Key> {
  const text = await files.readText(path);
  if (text !== undefined) {
    const key = tryKey(text.trim());
    if (key !== undefined) return key;
    throw new Failure("key-invalid", `${path} must hold one base64 key of 32 bytes`, {
      advice: `restore ${path} from a backup, or remove it and join again: exitnode up --join KEY`,
    });
  }
  const key = keyOf(random(32));
  await files.write(path, `${key}\n`, { mode: 0o600 });
  return key;
}
