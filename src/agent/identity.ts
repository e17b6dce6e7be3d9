import { type KeyPair, keyPairOf } from "../kit/crypto.js";
import { Failure } from "../kit/failure.js";
import { type Key, keyBytes, keyOf, tryKey } from "../kit/key.js";
import type { Files } from "../sys/files.js";
import type { Random } from "../sys/random.js";
import { DEVICE_FILES } from "../wire/agentconfig.js";
import { type LockKey, lockKeyOf } from "../wire/lock.js";
import { Rotation } from "./rotation.js";

/**
 * The keys of a device, made at its first start: one proves the machine to the coordinator, one is WireGuard's, one
 * speaks for the others where the network has a device lock, one seals probes. The last is kept as well: peers that
 * cannot hear of a new one, the coordinator being away, still understand a device that was restarted.
 */
export type Identity = {
  readonly machine: KeyPair;
  readonly wireguard: Rotation;
  readonly discovery: KeyPair;
  readonly lock: LockKey;
};

const DISCOVERY_KEY_FILE = "discovery.key";

export async function loadIdentity(files: Files, random: Random, folder: string): Promise<Identity> {
  const machine = await loadKey(files, random, `${folder}/${DEVICE_FILES.machineKey}`);
  const wireguardKey = await loadKey(files, random, `${folder}/${DEVICE_FILES.wireguardKey}`);
  const discovery = await loadKey(files, random, `${folder}/${DISCOVERY_KEY_FILE}`);
  const lock = await loadKey(files, random, `${folder}/${DEVICE_FILES.lockKey}`);
  return {
    lock: lockKeyOf(keyBytes(lock)),
    discovery: keyPairOf(keyBytes(discovery)),
    machine: keyPairOf(keyBytes(machine)),
    wireguard: new Rotation(wireguardKey, random, (key) =>
      files.write(`${folder}/${DEVICE_FILES.wireguardKey}`, `${key}\n`, { mode: 0o600 }),
    ),
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
