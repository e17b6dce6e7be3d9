import type { Call, Outcome } from "./command.js";
import { readConfig, readCredentials, writeConfig, writeCredentials } from "./config.js";
import { hostOf } from "./hosts.js";
import { renderTable } from "./table.js";

export async function hostList({ parts }: Call): Promise<Outcome> {
  const { hosts } = await readConfig(parts.files, parts.paths.config);
  const value = Object.entries(hosts).map(([name, { url, login, pveNode }]) => ({ name, url, login, pveNode }));
  const rows = value.map(({ name, url, login, pveNode }) => [name, url, login, pveNode ?? ""]);
  const text = rows.length === 0 ? "no hosts yet: exitnode host add <name>" : renderTable([HEADER, ...rows]);
  return { value: { hosts: value }, text };
}

const HEADER = ["NAME", "URL", "LOGIN", "PVE NODE"];

export async function hostRemove({ args, parts }: Call): Promise<Outcome> {
  const name = args[0] ?? "";
  const { url } = await hostOf(parts, name);
  const credentials = await readCredentials(parts.files, parts.paths.config);
  const config = await readConfig(parts.files, parts.paths.config);
  // The entry first: interrupted in between, the secret is left without a name that finds it, and goes at the next add.
  await writeConfig(parts.files, parts.paths.config, { ...config, hosts: without(config.hosts, name) });
  await writeCredentials(parts.files, parts.paths.config, { ...credentials, hosts: without(credentials.hosts, name) });
  return { value: { removed: name }, text: `forgot ${name} (${url}); nothing on the host was changed` };
}

function without<T>(record: Readonly<Record<string, T>>, name: string): Record<string, T> {
  return Object.fromEntries(Object.entries(record).filter(([key]) => key !== name));
}
