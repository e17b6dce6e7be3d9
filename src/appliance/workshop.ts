import { Failure } from "../kit/failure.js";
import { MINUTE, type Millis } from "../kit/time.js";
import type { Clock } from "../sys/clock.js";
import type { Exec, ExecOptions, Ran } from "../sys/exec.js";
import type { Files } from "../sys/files.js";

/** The machine on which a template is built or looked at, and what it must have. */

export type ApplianceParts = {
  readonly exec: Exec;
  readonly files: Files;
  readonly clock: Clock;
  readonly paths: { readonly package: string; readonly cache: string };
  say(line: string): void;
};

export const ARCHIVE_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg";
/** For one pass over the archive. */
const PASS_TIMEOUT_MS: Millis = 10 * MINUTE;

/** The Debian package that a program of the build is in. */
const PACKAGES: Readonly<Record<string, string>> = {
  mmdebstrap: "mmdebstrap",
  xz: "xz-utils",
  zstd: "zstd",
  tar: "tar",
  unshare: "util-linux",
};

export async function needRootAndTools(
  parts: ApplianceParts,
  tools: readonly string[],
  options: ExecOptions,
): Promise<void> {
  const missing: string[] = [];
  for (const tool of tools)
    if ((await run(parts, ["sh", "-c", 'command -v "$1"', "sh", tool], options)).exitCode !== 0)
      missing.push(PACKAGES[tool] ?? tool);
  const debian = (await run(parts, ["sh", "-c", "command -v dpkg"], options)).exitCode === 0;
  if (!debian)
    throw new Failure("tools-missing", `this machine is no Debian and lacks ${missing.join(", ") || "dpkg"}`, {
      advice: "build it on the Proxmox host: exitnode appliance build --on HOST",
    });
  const user = (await must(parts, ["id", "-u"], options)).trim();
  if (user !== "0")
    throw new Failure("not-root", `the appliance is built in a chroot, which needs root; this is user ${user}`, {
      advice: "sudo exitnode appliance build",
    });
  if ((await parts.files.read(ARCHIVE_KEYRING)) === undefined) missing.push("debian-archive-keyring");
  if (missing.length > 0)
    throw new Failure("tools-missing", `building the appliance needs ${missing.join(", ")}`, {
      advice: `apt-get install ${missing.join(" ")}`,
    });
}

/** A file of this package. */
export async function required(parts: ApplianceParts, name: string): Promise<string> {
  const text = await parts.files.readText(`${parts.paths.package}/${name}`);
  if (text !== undefined) return text;
  throw new Failure("package-incomplete", `${parts.paths.package}/${name} is missing`, {
    advice: "install the package again",
  });
}

export async function sha512Of(parts: ApplianceParts, path: string, options: ExecOptions): Promise<string> {
  // A name with a backslash is written escaped, with another one before the sum.
  return (await must(parts, ["sha512sum", "-b", path], options)).replace(/^\\/, "").slice(0, 128);
}

export async function sizeOf(parts: ApplianceParts, path: string, options: ExecOptions): Promise<number> {
  return Number(await must(parts, ["stat", "-c", "%s", path], options));
}

export const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(1)} MB`;

export function run(parts: ApplianceParts, argv: readonly string[], options: ExecOptions): Promise<Ran> {
  return parts.exec.run(argv, { timeoutMs: PASS_TIMEOUT_MS, ...execOptions(options) });
}

export async function must(parts: ApplianceParts, argv: readonly string[], options: ExecOptions): Promise<string> {
  const ran = await run(parts, argv, options);
  if (ran.exitCode === 0) return ran.stdout;
  throw new Failure("command-failed", `${argv[0]} exited ${ran.exitCode}: ${ran.stderr.trim().slice(-1_000)}`);
}

/** Of the options of a build, those that a command takes. */
function execOptions({ signal, timeoutMs, env }: ExecOptions): ExecOptions {
  return {
    ...(signal === undefined ? {} : { signal }),
    ...(timeoutMs === undefined ? {} : { timeoutMs }),
    ...(env === undefined ? {} : { env }),
  };
}
