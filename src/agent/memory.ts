import * as z from "zod";
import { fromBase64, toBase64 } from "../kit/bytes.js";
import { tryJson } from "../kit/json.js";
import type { Files } from "../sys/files.js";
import { DEVICE_FILES } from "../wire/agentconfig.js";
import { type NetworkMap, networkMap } from "../wire/map.js";
import type { Choice } from "./desired.js";

/** What an agent remembers across restarts, so that it works while the coordinator is away. */
export type Memory = {
  map: NetworkMap | undefined;
  choice: Choice;
  /** Where peers were last heard from, by public key: an exit node greets them there after a restart. */
  heard: Readonly<Record<string, string>>;
  /** To the relays; it may have expired. */
  admission: Uint8Array | undefined;
};

const HEARD_FILE = "heard.json";
const ADMISSION_FILE = "admission";
const heardFile = z.record(z.string().max(64), z.string().max(64));
const choiceFile = z.object({ exit: z.string().optional() });

/** A file that does not parse counts as absent: the coordinator sends a fresh map, the user chooses again. */
export async function recall(files: Files, folder: string): Promise<Memory> {
  const map = networkMap.safeParse(tryJson((await files.readText(`${folder}/${DEVICE_FILES.map}`)) ?? ""));
  const choice = choiceFile.safeParse(tryJson((await files.readText(`${folder}/${DEVICE_FILES.choice}`)) ?? ""));
  const heard = heardFile.safeParse(tryJson((await files.readText(`${folder}/${HEARD_FILE}`)) ?? ""));
  return {
    map: map.success ? map.data : undefined,
    choice: { exit: choice.success ? choice.data.exit : undefined },
    heard: heard.success ? heard.data : {},
    admission: fromBase64((await files.readText(`${folder}/${ADMISSION_FILE}`))?.trim() ?? "-"),
  };
}

/** Mode 0600: a map names every device and where it was last reachable. */
export async function rememberMap(files: Files, folder: string, map: NetworkMap): Promise<void> {
  await files.write(`${folder}/${DEVICE_FILES.map}`, `${JSON.stringify(map)}\n`, { mode: 0o600 });
}

export async function rememberChoice(files: Files, folder: string, choice: Choice): Promise<void> {
  await files.write(`${folder}/${DEVICE_FILES.choice}`, `${JSON.stringify(choice)}\n`, { mode: 0o600 });
}

export async function rememberHeard(files: Files, folder: string, heard: Memory["heard"]): Promise<void> {
  await files.write(`${folder}/${HEARD_FILE}`, `${JSON.stringify(heard)}\n`, { mode: 0o600 });
}

export async function rememberAdmission(files: Files, folder: string, admission: Uint8Array): Promise<void> {
  await files.write(`${folder}/${ADMISSION_FILE}`, `${toBase64(admission)}\n`, { mode: 0o600 });
}
