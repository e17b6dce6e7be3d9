import { existsSync } from "node:fs";
import { chmod, chown, copyFile, lchown, mkdir, rename } from "node:fs/promises";
import { hostname } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import YAML from "yaml";
import { Failure } from "../kit/failure.js";
import type { Key } from "../kit/key.js";
import { findUser, type User } from "../sys/users.js";
import { type AgentConfig, agentConfig, DEVICE_FILES } from "../wire/agentconfig.js";
import { decodeJoinKey } from "../wire/joinkey.js";
import { NAME_PATTERN, parseWith } from "../wire/schema.js";
import type { Parts } from "./command.js";
import { parseFile } from "./config.js";
import type { Paths } from "./paths.js";

/** What `up` lays out for the agent of this machine: its user, folders, program and configuration. */

export const AGENT_USER = "exitnode";

/** The user the agent runs as: its traffic keeps out of the tunnel, and it holds CAP_NET_ADMIN and nothing else. */
export async function ensureUser(parts: Parts): Promise<User> {
  const known = await findUser(parts.files, AGENT_USER);
  if (known !== undefined) return known;
  const ran = await parts.exec.run([
    "useradd",
    ...["--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"],
    ...["--shell", "/usr/sbin/nologin", AGENT_USER],
  ]);
  const made = await findUser(parts.files, AGENT_USER);
  if (made === undefined)
    throw new Failure("user-not-made", `cannot make the system user ${AGENT_USER}: ${ran.stderr.trim()}`, {
      advice: `useradd --system --user-group ${AGENT_USER}`,
    });
  return made;
}

/** /var/lib/exitnode belongs to the agent; the run folder too, so that it can make its socket there. */
export async function ensureFolders(paths: Paths, user: User): Promise<void> {
  await makeFolder(paths.etc, 0o755);
  for (const folder of [paths.var, paths.run]) {
    await makeFolder(folder, 0o750);
    await chown(folder, user.uid, user.gid);
  }
}

/** The mode is set once more: root's umask may have taken from it what the agent's user needs. */
async function makeFolder(folder: string, mode: number): Promise<void> {
  await mkdir(folder, { recursive: true });
  await chmod(folder, mode);
}

export const programFolder = (paths: Paths): string => join(dirname(paths.var), `${AGENT_USER}-program`);

/** Copies the agent to where its user can read it: the checkout or an npm prefix may lie in a private home. */
export async function installProgram(paths: Paths): Promise<string> {
  const folder = programFolder(paths);
  await makeFolder(folder, 0o755);
  for (const name of ["agent.js", "koffi.node", "accelerator.so"]) {
    const from = join(shippedFolder(), name);
    if (!existsSync(from) && name === "accelerator.so") continue;
    if (!existsSync(from)) throw new Failure("build-missing", `${from} is missing`, { advice: "npm run build" });
    await copyFile(from, join(folder, `.${name}`));
    await chmod(join(folder, `.${name}`), 0o644);
    await rename(join(folder, `.${name}`), join(folder, name));
  }
  return join(folder, "agent.js");
}

/** The folder of the bundles: beside this one when shipped, dist/ when run from a development build. */
function shippedFolder(): string {
  const here = dirname(fileURLToPath(import.meta.url));
  for (let folder = here; folder !== "/"; folder = dirname(folder)) {
    if (existsSync(join(folder, "agent.js")) && existsSync(join(folder, "exitnode.js"))) return folder;
    if (existsSync(join(folder, "dist", "agent.js"))) return join(folder, "dist");
  }
  throw new Failure("build-missing", "the bundles of dist/ are missing", { advice: "npm run build" });
}

export async function readAgentConfig(parts: Parts): Promise<AgentConfig | undefined> {
  const path = join(parts.paths.etc, DEVICE_FILES.config);
  const text = await parts.files.readText(path);
  return text === undefined ? undefined : parseFile(path, text, agentConfig);
}

/** This device's configuration from a join key; refused here, a bad key or name has changed nothing. */
export function joinConfig(
  joinKey: string,
  wanted: { readonly name: string | undefined; readonly dataPlane: string | undefined },
): AgentConfig {
  const { coordinatorKey, urls } = decodeJoinKey(joinKey);
  return deviceConfig({ urls, publicKey: coordinatorKey }, wanted);
}

/** This device's configuration at a coordinator that is known otherwise. */
export function deviceConfig(
  coordinator: { readonly urls: readonly string[]; readonly publicKey: Key },
  wanted: { readonly name: string | undefined; readonly dataPlane: string | undefined },
): AgentConfig {
  return parseWith(
    agentConfig,
    {
      name: wanted.name ?? nameFrom(hostname()),
      role: "device",
      coordinator,
      ...(wanted.dataPlane === undefined ? {} : { dataPlane: wanted.dataPlane }),
    },
    "the device's configuration",
    "usage",
  );
}

/** Where the agent finds it at its next start. */
export async function writeJoinKey(parts: Parts, user: User, joinKey: string): Promise<void> {
  const keyPath = join(parts.paths.var, DEVICE_FILES.joinKey);
  await parts.files.write(keyPath, `${joinKey.trim()}\n`, { mode: 0o600 });
  await lchown(keyPath, user.uid, user.gid);
}

/** The configuration last: with it, the machine is a device. Without a join key, a person has let it in already. */
export async function writeJoin(
  parts: Parts,
  user: User,
  joinKey: string | undefined,
  config: AgentConfig,
): Promise<void> {
  if (joinKey !== undefined) await writeJoinKey(parts, user, joinKey);
  await parts.files.write(join(parts.paths.etc, DEVICE_FILES.config), YAML.stringify(config));
}

/** A host name as a device name: lower case, what is not allowed becomes a hyphen. */
function nameFrom(host: string): string {
  const name = (host.split(".")[0] ?? "")
    .toLowerCase()
    .replace(/[^a-z0-9-]+/g, "-")
    .replace(/^-+|-+$/g, "")
    .slice(0, 63);
  return NAME_PATTERN.test(name) ? name : "device";
}
