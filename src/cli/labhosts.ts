import { isDeepStrictEqual } from "node:util";
import { familyOf, makeCidr, tryIp } from "../kit/ip.js";
import { HOSTS_MAX, labHosts } from "../lab/hosts.js";
import { EXIT, HOME_WAN, PVE_PORT } from "../lab/internet.js";
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
 * The lab's Proxmox hosts in the administrator's config, each twice: `lab` as root@pam, `lab-token` with a
 * least-privilege token; the second host is `lab2` and `lab2-token`, and so on. Entries of these names that are not what the lab writes belong to somebody, and are neither replaced nor
 * removed.
 */
export type Administration = { readonly config: Config; readonly credentials: Credentials };

export type Merged = Administration & { readonly changed: readonly string[]; readonly foreign: readonly string[] };

/** One entry of access per host of the lab, in their order. Hosts that an earlier lab had go. */
export function withLabHosts(before: Administration, accesses: readonly Access[]): Merged {
  const wanted = Object.fromEntries(accesses.flatMap(entriesFor));
  const foreign = foreignNames(before.config);
  const gone = Object.keys(before.config.hosts).filter(
    (name) => ENTRIES.has(name) && wanted[name] === undefined && !foreign.includes(name),
  );
  const { config, credentials } = withoutHosts(before, gone);
  const mine = Object.entries(wanted).filter(([name]) => !foreign.includes(name));
  const changed = mine.filter(
    ([name, { entry, secret }]) =>
      !isDeepStrictEqual(config.hosts[name], entry) || credentials.hosts[name]?.secret !== secret,
  );
  return {
    config: { ...config, hosts: { ...config.hosts, ...mapOf(mine, ({ entry }) => entry) } },
    credentials: { ...credentials, hosts: { ...credentials.hosts, ...mapOf(mine, ({ secret }) => ({ secret })) } },
    changed: [...changed.map(([name]) => name), ...gone],
    foreign,
  };
}

export function withoutLabHosts(before: Administration): Merged {
  const foreign = foreignNames(before.config);
  const gone = [...ENTRIES.keys()].filter((name) => before.config.hosts[name] !== undefined && !foreign.includes(name));
  const left = withoutHosts(before, gone);
  const { coordinator, ...config } = left.config;
  const { coordinator: token, ...credentials } = left.credentials;
  const lost = coordinator?.urls.every(isInLab) === true;
  return {
    config: { ...config, ...(lost || coordinator === undefined ? {} : { coordinator }) },
    credentials: {
      ...credentials,
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

function withoutHosts({ config, credentials }: Administration, gone: readonly string[]): Administration {
  const keep = <T>(hosts: Record<string, T>): Record<string, T> =>
    Object.fromEntries(Object.entries(hosts).filter(([name]) => !gone.includes(name)));
  return {
    config: { ...config, hosts: keep(config.hosts) },
    credentials: { ...credentials, hosts: keep(credentials.hosts) },
  };
}

const ROOT_LOGIN = "root@pam";
const TOKEN_LOGIN = "exitnode@pve!lab";

const entryName = (host: number, login: string): string =>
  `lab${host === 0 ? "" : host + 1}${login === ROOT_LOGIN ? "" : "-token"}`;

/** What the lab writes under each name, but for the fingerprint. */
const ENTRIES: ReadonlyMap<string, Omit<HostEntry, "fingerprint">> = new Map(
  labHosts(HOSTS_MAX).flatMap(({ address, name }, i) =>
    [ROOT_LOGIN, TOKEN_LOGIN].map((login) => [
      entryName(i, login),
      {
        url: `https://${address}:${PVE_PORT}`,
        pveNode: name,
        login,
        defaults: { whoami: ["http://whoami.lab/"] },
      },
    ]),
  ),
);

function entriesFor(access: Access, host: number): [string, { entry: HostEntry; secret: string }][] {
  return [
    { login: ROOT_LOGIN, secret: access.rootPassword },
    { login: access.token.id, secret: access.token.secret },
  ].flatMap(({ login, secret }) => {
    const name = entryName(host, login);
    const entry = ENTRIES.get(name);
    return entry === undefined ? [] : [[name, { entry: { ...entry, fingerprint: access.fingerprint }, secret }]];
  });
}

/** The fingerprint does not count: it is another one when the lab was purged in between. */
function foreignNames(config: Config): string[] {
  return [...ENTRIES].flatMap(([name, ours]) => {
    const entry = config.hosts[name];
    if (entry === undefined) return [];
    const { fingerprint: _, ...rest } = entry;
    return isDeepStrictEqual(rest, ours) ? [] : [name];
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
