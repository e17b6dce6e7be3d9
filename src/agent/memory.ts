import * as z from "zod";
import { fromBase64, toBase64 } from "../kit/bytes.js";
import { tryJson } from "../kit/json.js";
import { type Key, tryKey } from "../kit/key.js";
import type { Files } from "../sys/files.js";
import { DEVICE_FILES } from "../wire/agentconfig.js";
import type { NetworkMap } from "../wire/map.js";
import { Atlas } from "./atlas.js";
import type { Choice } from "./desired.js";
import { NO_WISH, readWish, type Wish, wishText } from "./exits/wish.js";
import { Lock, recallLock } from "./lock.js";
import type { RelayMemory } from "./relays.js";

/** What an agent remembers across restarts, so that it works while the coordinator is away. */
export type Memory = {
  /** As the lock lets it be used. */
  map: NetworkMap | undefined;
  readonly lock: Lock;
  /** Where the map comes from; empty when there is none, or none that can be believed. */
  readonly atlas: Atlas;
  /** The map on disk is not what the coordinator has sealed. */
  readonly altered: boolean;
  /** Of exits, as the user chose. */
  readonly wish: Wish;
  /** Where peers were last heard from, by public key: an exit node greets them there after a restart. */
  heard: Readonly<Record<string, string>>;
  /** Where peers look for this device, and what the relays let it in with. */
  readonly relays: RelayMemory;
};

const HEARD_FILE = "heard.json";
const ADMISSION_FILE = "admission";
const HOME_FILE = "home-relay";
const SEAL_KEY_FILE = "seal.key";
const heardFile = z.record(z.string().max(64), z.string().max(64));

/** What an agent knows that has just begun. */
export const nothing = (): Memory => ({
  ...{ map: undefined, atlas: new Atlas(), altered: false, lock: new Lock({ records: [] }, async () => undefined) },
  ...{ wish: NO_WISH, heard: {}, relays: { home: undefined, admission: undefined } },
});

/** A file that does not parse counts as absent: the coordinator sends a fresh map, the user chooses again. */
export async function recall(files: Files, folder: string, lockKey: Key): Promise<Memory> {
  const atlas = new Atlas();
  const sealKey = tryKey((await files.readText(`${folder}/${SEAL_KEY_FILE}`))?.trim() ?? "");
  const map = await files.readText(`${folder}/${DEVICE_FILES.map}`);
  const altered = map !== undefined && atlas.recall(tryJson(map), sealKey) === "altered";
  const wish = readWish(tryJson((await files.readText(`${folder}/${DEVICE_FILES.choice}`)) ?? ""));
  const heard = heardFile.safeParse(tryJson((await files.readText(`${folder}/${HEARD_FILE}`)) ?? ""));
  const lock = await recallLock(files, folder, lockKey);
  if (atlas.map !== undefined) await lock.prepare(atlas.map);
  return {
    map: atlas.map && lock.judge(atlas.map),
    lock,
    atlas,
    altered,
    wish,
    heard: heard.success ? heard.data : {},
    relays: {
      home: (await files.readText(`${folder}/${HOME_FILE}`))?.trim(),
      admission: fromBase64((await files.readText(`${folder}/${ADMISSION_FILE}`))?.trim() ?? "-"),
    },
  };
}

/** As an older coordinator gives it, which seals nothing. */
export async function rememberUnsealed(files: Files, folder: string, atlas: Atlas): Promise<void> {
  await files.remove(`${folder}/${SEAL_KEY_FILE}`);
  await writeMap(files, folder, atlas);
}

/** The map first: a key without a map that it has sealed would refuse the one that is there. */
export async function rememberSealed(files: Files, folder: string, atlas: Atlas, sealKey: Key): Promise<void> {
  await writeMap(files, folder, atlas);
  const path = `${folder}/${SEAL_KEY_FILE}`;
  if ((await files.readText(path))?.trim() !== sealKey) await files.write(path, `${sealKey}\n`, { mode: 0o600 });
}

/** `choice`: what has come of it. */
export async function rememberWish(files: Files, folder: string, wish: Wish, choice: Choice): Promise<void> {
  await files.write(`${folder}/${DEVICE_FILES.choice}`, `${wishText(wish, choice)}\n`, { mode: 0o600 });
}

export async function rememberHeard(files: Files, folder: string, heard: Memory["heard"]): Promise<void> {
  await files.write(`${folder}/${HEARD_FILE}`, `${JSON.stringify(heard)}\n`, { mode: 0o600 });
}

export async function rememberRelays(files: Files, folder: string, { home, admission }: RelayMemory): Promise<void> {
  const write = (name: string, text: string): Promise<void> =>
    files.write(`${folder}/${name}`, `${text}\n`, { mode: 0o600 });
  if (home !== undefined) await write(HOME_FILE, home);
  if (admission !== undefined) await write(ADMISSION_FILE, toBase64(admission));
}

/** Mode 0600: a map names every device and where it was last reachable. */
async function writeMap(files: Files, folder: string, atlas: Atlas): Promise<void> {
  const text = atlas.file();
  if (text !== undefined) await files.write(`${folder}/${DEVICE_FILES.map}`, text, { mode: 0o600 });
}
