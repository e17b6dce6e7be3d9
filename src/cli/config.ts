import { join } from "node:path";
import YAML, { type Document, isMap, LineCounter, parseDocument, visit } from "yaml";
import * as z from "zod";
import { Failure } from "../kit/failure.js";
import type { Files } from "../sys/files.js";
import { cidr, key } from "../wire/schema.js";

/**
 * The administrator's configuration: config.yaml (may be shown to anyone) and credentials.yaml (mode 0600).
 * Both are checked whole before use; an error names the file, the line and what was expected.
 */
const hostDefaults = z
  .strictObject({
    storage: z.string(),
    template: z.string(),
    templateStorage: z.string(),
    bridge: z.string(),
    vlan: z.number().int().min(1).max(4094),
    ip: z.string(),
    gateway: z.string(),
    ip6: z.string(),
    cores: z.number().int().min(1),
    memory: z.number().int().min(128),
    disk: z.number().min(1),
    pool: z.string(),
    dataPlane: z.enum(["auto", "kernel", "userspace"]),
    allowLan: z.array(cidr),
    /** The public address or name that the router forwards udp/51820 and tcp/443 from; found by asking when absent. */
    publicAddress: z.string(),
    whoami: z.array(z.url()),
    /** A container that root prepared once with /dev/net/tun: new ones are cloned from it. */
    tunSource: z.number().int().min(100).max(999_999_999),
  })
  .partial();

/** `user@host` or `user@host:port`; an IPv6 address stands in brackets. */
export const SSH_TARGET_PATTERN = /^(?:([a-z_][a-z0-9_-]*)@)?(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+)(?::(\d{1,5}))?$/;

export const hostEntry = z.strictObject({
  url: z.url({ protocol: /^https$/ }),
  /** SHA-256 of the certificate, colon-separated upper-case hex, as the Proxmox GUI shows it. */
  fingerprint: z.string().regex(/^(?:[0-9A-F]{2}:){31}[0-9A-F]{2}$/, "must be 32 hex pairs with colons"),
  pveNode: z.string().optional(),
  /** Either a user that logs in with a password, or a token id `user@realm!token`. */
  login: z
    .string()
    .regex(/^[^@\s]+@[a-z][a-z0-9.\-_]+(?:![A-Za-z][A-Za-z0-9.\-_]+)?$/, "must be user@realm or user@realm!token"),
  /** The Proxmox host's own sshd: a way to containers that cannot be reached from here. Its key is in `sshHosts`. */
  ssh: z.strictObject({ jump: z.string().regex(SSH_TARGET_PATTERN, "must be user@host or user@host:port") }).optional(),
  defaults: hostDefaults.default({}),
});
export type HostEntry = z.infer<typeof hostEntry>;

/** As `ssh-keygen -l` prints it. */
export const HOST_KEY_PATTERN = /^SHA256:[A-Za-z0-9+/]{43}$/;

export const configSchema = z.strictObject({
  hosts: z.record(z.string().regex(/^[a-z0-9][a-z0-9-]{0,62}$/), hostEntry).default({}),
  coordinator: z
    .strictObject({
      /** What devices dial. */
      urls: z.array(z.url({ protocol: /^https$/ })).min(1),
      /** What this machine dials to administer it, tried in order. */
      adminUrls: z.array(z.url({ protocol: /^https$/ })).min(1),
      publicKey: key,
      tlsFingerprint: z.string(),
    })
    .optional(),
  /** Machines that were entered over SSH to put a coordinator or a relay on them, by address or address:port. */
  sshHosts: z
    .record(z.string(), z.strictObject({ hostKey: z.string().regex(HOST_KEY_PATTERN, "must be SHA256:…") }))
    .optional(),
});
export type Config = z.infer<typeof configSchema>;

export const credentialsSchema = z.strictObject({
  /** Per host: the password of a user, or the secret of a token. */
  hosts: z.record(z.string(), z.strictObject({ secret: z.string() })).default({}),
  coordinator: z.strictObject({ adminToken: z.string() }).optional(),
});
export type Credentials = z.infer<typeof credentialsSchema>;

const configPath = (folder: string): string => join(folder, "config.yaml");
export const credentialsPath = (folder: string): string => join(folder, "credentials.yaml");

export async function readConfig(files: Files, folder: string): Promise<Config> {
  return parseFile(configPath(folder), await files.readText(configPath(folder)), configSchema);
}

export async function readCredentials(files: Files, folder: string): Promise<Credentials> {
  return parseCredentials(credentialsPath(folder), await files.readText(credentialsPath(folder)));
}

export async function writeConfig(files: Files, folder: string, config: Config): Promise<void> {
  const path = configPath(folder);
  // By this line an editor finds the schema: it outlives the file's being written anew.
  const schemaLine = /^# yaml-language-server: .*\n/.exec((await files.readText(path)) ?? "")?.[0] ?? "";
  await files.write(path, schemaLine + YAML.stringify(configSchema.parse(config)), { mode: 0o644 });
}

export async function writeCredentials(files: Files, folder: string, credentials: Credentials): Promise<void> {
  await files.write(credentialsPath(folder), YAML.stringify(credentialsSchema.parse(credentials)), { mode: 0o600 });
}

/** In this file a secret may stand where a key should, as in `{secret:abc}`: an error quotes no word of it. */
export function parseCredentials(path: string, text: string | undefined): Credentials {
  return parseFile(path, text, credentialsSchema, "expected hosts.NAME.secret and coordinator.adminToken, each a text");
}

/**
 * Parses YAML against a schema; the Failure `config-invalid` names file and line, never a value. `expected` is said
 * instead of the place in the document, for files whose very keys must not be quoted.
 */
export function parseFile<T>(path: string, text: string | undefined, schema: z.ZodType<T>, expected?: string): T {
  const lines = new LineCounter();
  // The library's warnings quote what is in the file.
  const document = parseDocument(text ?? "{}", { lineCounter: lines, logLevel: "error" });
  const broken = document.errors[0];
  if (broken !== undefined) throw invalid(path, lines.linePos(broken.pos[0]).line, broken.code);
  const parsed = schema.safeParse(contentOf(document, (at) => invalid(path, lines.linePos(at).line, BAD_ALIAS)) ?? {});
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  const where = (issue?.path ?? []).map((part) => (typeof part === "symbol" ? String(part) : part));
  let node = document.getIn(where, true);
  for (let depth = where.length - 1; node === undefined && depth >= 0; depth--)
    node = document.getIn(where.slice(0, depth), true);
  const range = isMap(node) || (node !== null && typeof node === "object" && "range" in node) ? node.range : undefined;
  const offset = Array.isArray(range) ? Number(range[0]) : 0;
  const reason = expected ?? `${where.join(".") || "the file"}: ${issue?.message ?? "invalid"}`;
  throw invalid(path, lines.linePos(offset).line, reason);
}

const BAD_ALIAS = "an alias (*name) must stand after its anchor (&name), and there may not be a great many";

/** Aliases are looked up only here: one without its anchor, or a bomb of them, is refused where it stands. */
function contentOf(document: Document, refusal: (at: number) => Failure): unknown {
  try {
    return document.toJS();
  } catch {
    let at = 0;
    visit(document, {
      Alias(_, alias) {
        at = alias.range?.[0] ?? at;
        return alias.resolve(document) === undefined ? visit.BREAK : undefined;
      },
    });
    throw refusal(at);
  }
}

function invalid(path: string, line: number, reason: string): Failure {
  return new Failure("config-invalid", `${path} line ${line}: ${reason}`, {
    advice: `correct line ${line} of ${path}, or move the file away to start afresh`,
  });
}
