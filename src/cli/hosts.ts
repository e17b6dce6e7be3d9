import { Failure } from "../kit/failure.js";
import { connectPve } from "../pve/client.js";
import type { PveHost } from "../pve/guests.js";
import type { PveRecovery } from "../pve/recovery.js";
import { type Https, openHttps } from "../sys/https.js";
import type { Parts } from "./command.js";
import { credentialsPath, type HostEntry, readConfig, readCredentials } from "./config.js";

/** The Proxmox hosts of the config, and a connection to one of them. */
export type HostParts = Pick<Parts, "files" | "paths" | "env" | "clock">;

export type OpenedHost = { readonly name: string; readonly entry: HostEntry; readonly pve: PveHost & PveRecovery };

export async function openHost(
  parts: HostParts,
  name: string,
  options: { signal?: AbortSignal; https?: Https } = {},
): Promise<OpenedHost> {
  const entry = await hostOf(parts, name);
  const login = { ...entry, name, secret: await secretOf(parts, name), signal: options.signal };
  const pve = connectPve({ https: options.https ?? openHttps(), clock: parts.clock }, login);
  return { name, entry, pve };
}

/** Every host of the config, or a Failure when there is none to have `what`. */
export async function hostNames(parts: HostParts, what?: string): Promise<string[]> {
  const names = Object.keys((await readConfig(parts.files, parts.paths.config)).hosts);
  if (names.length > 0) return names;
  const wanted = what === undefined ? "" : `, so no ${what} is known here`;
  throw new Failure("host-unknown", `there is no Proxmox host in the config${wanted}`, { advice: ADD_ADVICE });
}

/** The host meant when no name was given: the only one there is. */
export async function onlyHost(parts: HostParts): Promise<string> {
  const [only = "", ...others] = await hostNames(parts);
  if (others.length === 0) return only;
  throw new Failure("usage", `expected --host with one of ${[only, ...others].join(", ")}`);
}

export async function hostOf(parts: HostParts, name: string): Promise<HostEntry> {
  const { hosts } = await readConfig(parts.files, parts.paths.config);
  const entry = Object.hasOwn(hosts, name) ? hosts[name] : undefined;
  if (entry !== undefined) return entry;
  const names = Object.keys(hosts);
  const known = names.length === 0 ? "the config has none yet" : `expected one of ${names.join(", ")}`;
  throw new Failure("host-unknown", `there is no host "${name}": ${known}`, {
    advice: names.length === 0 ? ADD_ADVICE.replace("<name>", name || "<name>") : "exitnode host list",
  });
}

const ADD_ADVICE = "exitnode host add <name> --url https://192.168.1.10:8006";

/** From EXITNODE_SECRET_<NAME>, or credentials.yaml, or EXITNODE_SECRET, in this order. */
async function secretOf({ env, files, paths }: HostParts, name: string): Promise<string> {
  const own = env[secretVariable(name)];
  if (own) return own;
  const { hosts } = await readCredentials(files, paths.config);
  const kept = Object.hasOwn(hosts, name) ? hosts[name]?.secret : undefined;
  const secret = kept ?? env.EXITNODE_SECRET;
  if (secret) return secret;
  throw new Failure(
    "credentials-missing",
    `there is no secret for host "${name}" in ${credentialsPath(paths.config)}`,
    {
      advice: `exitnode host add ${name}, or set ${secretVariable(name)}`,
    },
  );
}

/** "pve-1" → EXITNODE_SECRET_PVE_1. */
const secretVariable = (name: string): string => `EXITNODE_SECRET_${name.toUpperCase().replaceAll("-", "_")}`;
