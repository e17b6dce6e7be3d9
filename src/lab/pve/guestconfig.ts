import { createHash } from "node:crypto";

/**
 * A container's configuration file, as Proxmox writes it:
 *
 *   #description, one line each, URL-encoded where needed
 *   key: value            sorted by key
 *   [pve:pending]         what a running container gets at its next start
 *   delete: key,key
 *   key: value
 *   [name]                a snapshot: its description, its options, `snaptime`, the `parent` it followed
 */
export type GuestConfig = {
  readonly options: Record<string, string>;
  readonly pending: Record<string, string>;
  readonly pendingDelete: Set<string>;
  readonly snapshots: Map<string, Record<string, string>>;
};

export const emptyConfig = (options: Record<string, string> = {}): GuestConfig => ({
  options,
  pending: {},
  pendingDelete: new Set(),
  snapshots: new Map(),
});

/** The same container with other options, nothing pending any more. */
export const settled = (config: GuestConfig, options: Record<string, string>): GuestConfig => ({
  ...emptyConfig(options),
  snapshots: config.snapshots,
});

export function renderConfig(config: GuestConfig): string {
  const pending = Object.keys(config.pending).length + config.pendingDelete.size;
  const snapshots = [...config.snapshots].sort(([a], [b]) => (a < b ? -1 : 1));
  return [
    section(config.options),
    ...(pending === 0 ? [] : [`[pve:pending]\n${deletions(config)}${lines(config.pending)}`]),
    ...snapshots.map(([name, options]) => `[${name}]\n${section(options)}`),
  ].join("\n");
}

export function parseConfig(text: string): GuestConfig {
  const config = emptyConfig();
  let section = config.options;
  for (const line of text.split("\n")) {
    const name = /^\[([^\]]+)\]$/.exec(line)?.[1];
    if (name === "pve:pending") section = config.pending;
    else if (name !== undefined) {
      section = {};
      config.snapshots.set(name, section);
    } else if (line.startsWith("#"))
      section.description = `${section.description ?? ""}${unescapeLine(line.slice(1))}\n`;
    else {
      const [, key = "", value = ""] = /^([a-z0-9-]+): (.*)$/.exec(line) ?? [];
      if (key === "delete") for (const name of value.split(",")) config.pendingDelete.add(name);
      else if (key !== "") section[key] = unescapeLine(value);
    }
  }
  return config;
}

/** What PUT compares: SHA-1 of the file. */
export const digestOf = (text: string): string => createHash("sha1").update(text).digest("hex");

/** The configuration with what is pending taken for granted, as GET config shows it. */
export function withPending(config: GuestConfig): Record<string, string> {
  const merged = { ...config.options, ...config.pending };
  for (const key of config.pendingDelete) delete merged[key];
  return merged;
}

const NUMERIC = new Set([
  ...["memory", "swap", "cores", "cpulimit", "cpuunits", "unprivileged", "onboot", "protection", "console", "tty"],
  ...["template", "debug", "snaptime"],
]);

/** Numbers go out as numbers. */
export const outward = (key: string, value: string): string | number => (NUMERIC.has(key) ? Number(value) : value);

export function outwardAll(options: Record<string, string>): Record<string, string | number> {
  return Object.fromEntries(Object.entries(options).map(([key, value]) => [key, outward(key, value)]));
}

/** "name=eth0,bridge=vmbr0" as a record; a part without a key goes under `bare`. */
export function splitOption(text: string, bare = "volume"): Record<string, string> {
  const values: Record<string, string> = {};
  for (const part of text.split(",")) {
    const at = part.indexOf("=");
    values[at > 0 ? part.slice(0, at) : bare] = part.slice(at > 0 ? at + 1 : 0);
  }
  return values;
}

/** Proxmox prints the default key bare and first, `name` second, the others sorted. */
export function joinOption(values: Record<string, string>, first: readonly string[], bare?: string): string {
  const rest = Object.keys(values)
    .filter((key) => !first.includes(key) && key !== bare)
    .sort();
  const named = [...first.filter((key) => key in values), ...rest].map((key) => `${key}=${values[key]}`);
  return [...(bare === undefined || values[bare] === undefined ? [] : [values[bare]]), ...named].join(",");
}

function section({ description, ...options }: Record<string, string>): string {
  const remarks = description?.replace(/\n$/, "").split("\n") ?? [];
  return `${remarks.map((line) => `#${escapeLine(line)}\n`).join("")}${lines(options)}`;
}

function lines(options: Record<string, string>): string {
  return Object.keys(options)
    .sort()
    .map((key) => `${key}: ${escapeLine(options[key] ?? "")}\n`)
    .join("");
}

function deletions(config: GuestConfig): string {
  return config.pendingDelete.size === 0 ? "" : `delete: ${[...config.pendingDelete].sort().join(",")}\n`;
}

/** Line breaks and their like are kept as %0A; NUL separates the entries of `env`. */
function escapeLine(text: string): string {
  return Array.from(text, (char) =>
    char < " " || char === "%" || char === "\x7f"
      ? `%${char.charCodeAt(0).toString(16).padStart(2, "0").toUpperCase()}`
      : char,
  ).join("");
}

function unescapeLine(text: string): string {
  return text.replace(/%([0-9A-F]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
}
