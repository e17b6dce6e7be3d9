import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { tryJson } from "../kit/json.js";
import { DEFAULTS } from "../provision/spec.js";
import { DEVICE_FILES } from "../wire/agentconfig.js";
import { networkMap } from "../wire/map.js";
import type { Parts } from "./command.js";
import type { Config } from "./config.js";

/**
 * Services that tell a caller its public address, for this machine to ask: EXITNODE_WHOAMI names them, or else the
 * network map, or else they are ours. They learn nothing but that address.
 */
export async function whoamiUrls(parts: Parts): Promise<readonly string[]> {
  const wanted = parts.env.EXITNODE_WHOAMI;
  if (wanted !== undefined && wanted !== "") return wanted.split(",");
  const map = networkMap.safeParse(
    tryJson((await parts.files.readText(join(parts.paths.var, DEVICE_FILES.map))) ?? ""),
  );
  const told = map.success ? (map.data.whoami ?? []) : [];
  return told.length > 0 ? told : DEFAULTS.whoami;
}

/**
 * The services a coordinator tells its devices: `wanted` (EXITNODE_WHOAMI) names them, or all Proxmox hosts of the config
 * agree on them, or else they are ours.
 */
export function whoamiToTell(wanted: string | undefined, hosts: Config["hosts"]): string[] {
  if (wanted !== undefined && wanted !== "") return wanted.split(",");
  const [first, ...others] = Object.values(hosts).map(({ defaults }) => defaults.whoami);
  const agreed = first !== undefined && others.every((one) => isDeepStrictEqual(one, first));
  return [...(agreed ? first : DEFAULTS.whoami)];
}
