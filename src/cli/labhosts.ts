import { isDeepStrictEqual } from "node:util";
import { familyOf, makeCidr, tryIp } from "../kit/ip.js";
import { EXIT, HOME_WAN, PVE, PVE_NODE, PVE_PORT } from "../lab/internet.js";
import type { Access } from "../lab/pve/access.js";
import type { Files } from "../sys/files.js";
import {
  type Config,
  type Credentials,
  type HostEntry,
  readConfig,
  readCredentials,
  writeConfig,
  writeCredentials,
} from "./config.js";

/**
 * The lab's Proxmox host in the administrator's config, twice: `lab` as root@pam, `lab-token` with a least-privilege
 * token. Entries of these names that are not what the lab writes belong to somebody, and are neither replaced nor
 * removed.
 */
export type Administration = { readonly config: Config; readonly credentials: Credentials };

export type Merged = Administration & { readonly changed: readonly string[]; readonly foreign: readonly string[] };

export function withLabHosts({ config, credentials }: Administration, access: Access): Merged {
  const wanted: Record<string, { entry: HostEntry; secret: string }> = {
    lab: { entry: labEntry("root@pam", access.fingerprint), secret: access.rootPassword },
    "lab-token": { entry: labEntry(access.token.id, access.fingerprint), secret: access.token.secret },
  };
  const foreign = foreignNames(config);
  const mine = Object.entries(wanted).filter(([name]) => !foreign.includes(name));
  const changed = mine.filter(
    ([name, { entry, secret }]) =>
      !isDeepStrictEqual(config.hosts[name], entry) || credentials.hosts[name]?.secret !== secret,
  );
  return {
    config: { ...config, hosts: { ...config.hosts, ...mapOf(mine, ({ entry }) => entry) } },
    credentials: { ...credentials, hosts: { ...credentials.hosts, ...mapOf(mine, ({ secret }) => ({ secret })) } },
    changed: changed.map(([name]) => name),
    foreign,
  };
}

export function withoutLabHosts({ config, credentials }: Administration): Merged {
  const foreign = foreignNames(config);
  const gone = NAMES.filter((name) => config.hosts[name] !== undefined && !foreign.includes(name));
  const keep = <T>(hosts: Record<string, T>): Record<string, T> =>
    Object.fromEntries(Object.entries(hosts).filter(([name]) => !gone.includes(name)));
  const { coordinator, ...others } = config;
  const { coordinator: token, ...otherCredentials } = credentials;
  const lost = coordinator?.urls.every(isInLab) === true;
  return {
    config: { ...others, hosts: keep(config.hosts), ...(lost || coordinator === undefined ? {} : { coordinator }) },
    credentials: {
      ...otherCredentials,
      hosts: keep(credentials.hosts),
      ...(lost || token === undefined ? {} : { coordinator: token }),
    },
    changed: [...gone, ...(lost ? ["the coordinator"] : [])],
    foreign,
  };
}

/** A coordinator in a container of the lab is gone with it. */
function isInLab(url: string): boolean {
  const ip = tryIp(new URL(url).hostname);
  return (
    ip !== undefined && [HOME_WAN, EXIT].some((own) => familyOf(ip) === 4 && makeCidr(own, 24) === makeCidr(ip, 24))
  );
}

const NAMES = ["lab", "lab-token"];
const TOKEN_LOGIN = "exitnode@pve!lab";

function labEntry(login: string, fingerprint: string): HostEntry {
  return {
    url: `https://${PVE}:${PVE_PORT}`,
    fingerprint,
    pveNode: PVE_NODE,
    login,
    defaults: { whoami: ["http://whoami.lab/"] },
  };
}

/** The fingerprint does not count: it is another one when the lab was purged in between. */
function foreignNames(config: Config): string[] {
  return NAMES.filter((name) => {
    const entry = config.hosts[name];
    const login = name === "lab" ? "root@pam" : TOKEN_LOGIN;
    return entry !== undefined && !isDeepStrictEqual(entry, labEntry(login, entry.fingerprint));
  });
}

function mapOf<T, U>(entries: readonly [string, T][], value: (of: T) => U): Record<string, U> {
  return Object.fromEntries(entries.map(([name, of]) => [name, value(of)]));
}

/** Applies one of the two to the files; nothing is written when nothing changes. Answers what was changed and kept. */
export async function mergeFiles(
  files: Files,
  folder: string,
  merge: (administration: Administration) => Merged,
): Promise<Merged> {
  const merged = merge({
    config: await readConfig(files, folder),
    credentials: await readCredentials(files, folder),
  });
  if (merged.changed.length === 0) return merged;
  // The secret first: an entry without one would be a host that cannot be used.
  await writeCredentials(files, folder, merged.credentials);
  await writeConfig(files, folder, merged.config);
  return merged;
}
