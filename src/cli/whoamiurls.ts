import { join } from "node:path";
import { DEVICE_FILES } from "../wire/agentconfig.js";
import { networkMap } from "../wire/map.js";
import { tryJson } from "../wire/schema.js";
import type { Parts } from "./command.js";

/**
 * Services that tell a caller its public address, when neither the network map nor EXITNODE_WHOAMI names any.
 * They learn nothing but that address.
 */
export const WHOAMI_DEFAULT: readonly string[] = ["https://api64.ipify.org", "https://icanhazip.com"];

/** The services to ask on this machine. */
export async function whoamiUrls(parts: Parts): Promise<readonly string[]> {
  const wanted = parts.env["EXITNODE_WHOAMI"];
  if (wanted !== undefined && wanted !== "") return wanted.split(",");
  const map = networkMap.safeParse(
    tryJson((await parts.files.readText(join(parts.paths.var, DEVICE_FILES.map))) ?? ""),
  );
  const told = map.success ? (map.data.whoami ?? []) : [];
  return told.length > 0 ? told : WHOAMI_DEFAULT;
}
