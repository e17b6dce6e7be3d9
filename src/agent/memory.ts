import { z } from "zod";
import type { Files } from "../sys/files.js";
import { DEVICE_FILES } from "../wire/agentconfig.js";
import { type NetworkMap, networkMap } from "../wire/map.js";
import { tryJson } from "../wire/schema.js";
import type { Choice } from "./desired.js";

/** What an agent remembers across restarts, so that it works while the coordinator is away. */
export type Memory = {
  map: NetworkMap | undefined;
  choice: Choice;
};

const choiceFile = z.object({ exit: z.string().optional() });

/** A file that does not parse counts as absent: the coordinator sends a fresh map, the user chooses again. */
export async function recall(files: Files, folder: string): Promise<Memory> {
  const map = networkMap.safeParse(tryJson((await files.readText(`${folder}/${DEVICE_FILES.map}`)) ?? ""));
  const choice = choiceFile.safeParse(tryJson((await files.readText(`${folder}/${DEVICE_FILES.choice}`)) ?? ""));
  return { map: map.success ? map.data : undefined, choice: { exit: choice.success ? choice.data.exit : undefined } };
}

/** Mode 0600: a map names every device and where it was last reachable. */
export async function rememberMap(files: Files, folder: string, map: NetworkMap): Promise<void> {
  await files.write(`${folder}/${DEVICE_FILES.map}`, `${JSON.stringify(map)}\n`, { mode: 0o600 });
}

export async function rememberChoice(files: Files, folder: string, choice: Choice): Promise<void> {
  await files.write(`${folder}/${DEVICE_FILES.choice}`, `${JSON.stringify(choice)}\n`, { mode: 0o600 });
}
