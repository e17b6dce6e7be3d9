import { createHash } from "node:crypto";
import { join } from "node:path";
import * as z from "zod";
import { applianceManifest } from "../appliance/manifest.js";
import { toBase64Url } from "../kit/bytes.js";
import { Failure } from "../kit/failure.js";
import { tryJson } from "../kit/json.js";
import { tryKey } from "../kit/key.js";
import { PUSHED_FILES, readTemplates } from "../netconf/containerfiles.js";
import type { Appliance, CoordinatorBook, HostRequest, Progress, ProvisionParts } from "../provision/parts.js";
import type { Payload } from "../provision/payload.js";
import { reaching } from "../provision/reach.js";
import { openSsh } from "../sys/ssh.js";
import { ensureSshKey } from "../sys/sshkey.js";
import { version } from "../version.js";
import { deviceInfo } from "../wire/adminapi.js";
import { callCoordinator } from "./admin.js";
import type { Call, Parts } from "./command.js";
import { readConfig, readCredentials, writeConfig, writeCredentials } from "./config.js";
import { type OpenedHost, onlyHost, openHost } from "./hosts.js";
import { makeJoinKey } from "./joinkey.js";
import { leadsTo } from "./leadsto.js";
import { knownMachine } from "./machinelogin.js";

/** The world that provisioning gets from the command line. */
export async function provisionParts(call: Call, opened: OpenedHost, progress: Progress): Promise<ProvisionParts> {
  const { files, clock, random, paths } = call.parts;
  let payload: Promise<Payload> | undefined;
  let appliance: Promise<Appliance | undefined> | undefined;
  const through = opened.entry.ssh?.jump;
  const jump = through === undefined ? undefined : await knownMachine(call, through, opened.name);
  return {
    host: opened.pve,
    clock,
    random,
    files,
    journalFolder: journalFolder(call.parts),
    openSsh: reaching(openSsh, jump, opened.name),
    ...(jump === undefined ? {} : { hostShell: (signal) => openSsh(jump, signal) }),
    sshKey: await ensureSshKey(files, paths.config),
    sha256: (content) => createHash("sha256").update(content).digest("hex"),
    payload: () => {
      payload ??= readPayload(call.parts);
      return payload;
    },
    appliance: () => {
      appliance ??= readAppliance(call.parts);
      return appliance;
    },
    book: coordinatorBook(call),
    progress,
    signal: call.signal,
    leadsTo: leadsTo(clock, call.signal),
    tunnel: async (exit) =>
      (await import("./upgradetunnel.js")).tryTunnel({ clock, random, signal: call.signal }, exit),
  };
}

/** What runs write down as they go. */
export const journalFolder = ({ paths }: Pick<Parts, "paths">): string => join(paths.state, "journal");

export async function openedHost(call: Call): Promise<{ opened: OpenedHost; request: HostRequest }> {
  const { host } = call.options;
  const name = typeof host === "string" ? host : await onlyHost(call.parts);
  const opened = await openHost(call.parts, name, { signal: call.signal });
  const { login, pveNode, defaults } = opened.entry;
  const wanted = call.parts.env.EXITNODE_WHOAMI;
  const whoami = wanted ? wanted.split(",") : defaults.whoami;
  return { opened, request: { hostName: name, login, pveNode, defaults: { ...defined(defaults), whoami } } };
}

function defined<T extends object>(value: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(value).filter(([, one]) => one !== undefined)) as never;
}

async function readPayload({ files, paths }: Parts): Promise<Payload> {
  const templates = await readTemplates((name) => files.readText(join(paths.package, "templates", name)));
  const bundles: Record<string, Uint8Array> = {};
  const bundleSha256: Record<string, string> = {};
  for (const { from, optional } of PUSHED_FILES) {
    const path = join(paths.package, "dist", from);
    const content = await files.read(path);
    if (content === undefined && optional) continue;
    if (content === undefined)
      throw new Failure("bundle-missing", `there is no ${path}, which goes into the container`, {
        advice: `in ${paths.package}: npm run build`,
      });
    bundles[from] = content;
    bundleSha256[from] = createHash("sha256").update(content).digest("hex");
  }
  return { version, templates, bundles, bundleSha256 };
}

/** The newest template that was built here. A file that is not what its manifest says is refused. */
export async function readAppliance({ files, paths }: Parts): Promise<Appliance | undefined> {
  const folder = join(paths.cache, "appliance");
  const manifests = [];
  for (const name of await files.list(folder)) {
    if (!name.endsWith(".json")) continue;
    const parsed = applianceManifest.safeParse(tryJson((await files.readText(join(folder, name))) ?? ""));
    if (parsed.success) manifests.push(parsed.data);
  }
  const newest = manifests.sort((left, right) => right.builtAt.localeCompare(left.builtAt))[0];
  if (newest === undefined) return undefined;
  const path = join(folder, newest.name);
  const content = await files.read(path);
  if (content === undefined) return undefined;
  const sha512 = createHash("sha512").update(content).digest("hex");
  if (sha512 !== newest.sha512)
    throw new Failure(
      "checksum-mismatch",
      `the template ${path} is not the one that was built: its SHA-512 begins with ${sha512.slice(0, 16)}, expected ${newest.sha512.slice(0, 16)}`,
      {
        advice: "exitnode appliance build --fresh",
      },
    );
  return { path, name: newest.name, sizeBytes: newest.bytes, unpackedBytes: newest.unpackedBytes, sha512 };
}

const ADMIN_TOKEN_BYTES = 32;
const devicesAnswer = z.object({ devices: z.array(deviceInfo) });

/** What this administrator's config and credentials say of the coordinator. */
export function coordinatorBook(call: Call): CoordinatorBook {
  const { files, paths, random } = call.parts;
  return {
    record: async () => (await readConfig(files, paths.config)).coordinator,
    async keep(record) {
      const config = await readConfig(files, paths.config);
      const publicKey = tryKey(record.publicKey);
      if (publicKey === undefined)
        throw new Failure("coordinator-strange", "the coordinator's public key is not a key");
      const { urls, adminUrls, tlsFingerprint } = record;
      const coordinator = { urls: [...urls], adminUrls: [...adminUrls], publicKey, tlsFingerprint };
      await writeConfig(files, paths.config, { ...config, coordinator });
    },
    async adminToken() {
      const credentials = await readCredentials(files, paths.config);
      if (credentials.coordinator !== undefined) return credentials.coordinator.adminToken;
      const adminToken = toBase64Url(random(ADMIN_TOKEN_BYTES));
      await writeCredentials(files, paths.config, { ...credentials, coordinator: { adminToken } });
      return adminToken;
    },
    async drop() {
      const { coordinator: _record, ...config } = await readConfig(files, paths.config);
      await writeConfig(files, paths.config, config);
      const { coordinator: _token, ...credentials } = await readCredentials(files, paths.config);
      await writeCredentials(files, paths.config, credentials);
    },
    admin: async () => ({
      createKey: (request) => makeJoinKey(call, request),
      devices: async () => (await callCoordinator(call, devicesAnswer, "GET", "/devices")).devices,
      async forget(idOrName) {
        await callCoordinator(call, z.unknown(), "DELETE", `/devices/${encodeURIComponent(idOrName)}`);
      },
    }),
  };
}
