import { toHex, utf8 } from "../kit/bytes.js";
import { hash } from "../kit/crypto.js";
import { Failure } from "../kit/failure.js";
import { tryJson } from "../kit/json.js";
import { formatDuration, HOUR, MINUTE, type Millis } from "../kit/time.js";
import { MASKED_UNITS, readTemplates, renderContainerFiles } from "../netconf/containerfiles.js";
import type { Clock } from "../sys/clock.js";
import type { Exec, ExecOptions } from "../sys/exec.js";
import type { Files } from "../sys/files.js";
import { type ApplianceManifest, applianceManifest, inspectListing, parseListing, parsePackages } from "./manifest.js";
import { APT_TARGETS_ARGV, archiveSources, explainBuildFailure } from "./mirror.js";
import { applianceName, imageFiles, mmdebstrapArgv, parseRecipe, type Workplace } from "./recipe.js";

/** Makes the container template with mmdebstrap, checks it, and keeps it in the cache with its manifest. */

export type ApplianceParts = {
  readonly exec: Exec;
  readonly files: Files;
  readonly clock: Clock;
  readonly paths: { readonly package: string; readonly cache: string };
  say(line: string): void;
};

export type BuildOptions = {
  readonly version: string;
  /** Packages come from here and not from apt's own mirror. */
  readonly mirror?: string;
  /** Build even if the same was built lately. */
  readonly fresh?: boolean;
  readonly signal?: AbortSignal;
};

export type Built = {
  readonly path: string;
  readonly manifest: ApplianceManifest;
  /** False when an earlier build of the same inputs was still there. */
  readonly built: boolean;
};

export const ARCHIVE_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg";
/** The archive publishes security updates daily; a template older than this is built anew. */
export const APPLIANCE_FRESH_MS: Millis = 7 * 24 * HOUR;
/** 20 s on a fast mirror; a slow line gets its chance. */
export const BUILD_TIMEOUT_MS: Millis = 30 * MINUTE;
/** For one pass over the archive. */
const PASS_TIMEOUT_MS: Millis = 10 * MINUTE;

export async function buildAppliance(parts: ApplianceParts, options: BuildOptions): Promise<Built> {
  const started = parts.clock.now();
  const recipe = parseRecipe(await required(parts, "appliance/recipe.yaml"));
  const sources = await readTemplates((name) => parts.files.readText(`${parts.paths.package}/templates/${name}`));
  const files = imageFiles(recipe, renderContainerFiles(sources, {}));
  const targets = options.mirror === undefined ? (await run(parts, [...APT_TARGETS_ARGV], options)).stdout : "";
  const archive = archiveSources(targets, recipe.suite, options.mirror);
  const inputs = toHex(hash(utf8(JSON.stringify([recipe, files, MASKED_UNITS, archive, options.version]))));

  const name = applianceName(recipe, options.version);
  const path = `${parts.paths.cache}/appliance/${name}`;
  const known = options.fresh ? undefined : await stillFresh(parts, path, inputs);
  if (known !== undefined) {
    parts.say(`the appliance ${name} is there already (${megabytes(known.bytes)}, built ${known.builtAt})`);
    return { path, manifest: known, built: false };
  }

  await needRootAndTools(parts, options);
  const scratch = (await must(parts, ["mktemp", "-d", "--tmpdir", "exitnode-appliance.XXXXXXXX"], options)).trim();
  try {
    const place: Workplace = {
      keyring: ARCHIVE_KEYRING,
      sources: archive,
      overlay: `${scratch}/overlay.tar`,
      packageList: `${scratch}/packages`,
      target: `${scratch}/image.tar`,
    };
    await writeOverlay(parts, `${scratch}/overlay`, place.overlay, files, options);
    parts.say(`building ${name}: Debian ${recipe.suite}, ${recipe.packages.length} packages and what they need`);
    const ran = await run(parts, mmdebstrapArgv(recipe, place), {
      ...options,
      timeoutMs: BUILD_TIMEOUT_MS,
      env: { SOURCE_DATE_EPOCH: String(recipe.epoch), TMPDIR: scratch, LC_ALL: "C.UTF-8" },
    }).catch((error: unknown) => {
      if (!options.signal?.aborted) throw error;
      throw new Failure("interrupted", `the build of ${name} was interrupted; nothing of it is left`);
    });
    if (ran.exitCode !== 0) throw explainBuildFailure(ran.stderr, recipe.suite, ARCHIVE_KEYRING);
    await appendDev(parts, scratch, place.target, recipe.epoch, options);
    await inspect(parts, place.target, options);
    parts.say(`packing it (${formatDuration(parts.clock.now() - started)} so far)`);
    const packed = `${scratch}/${name}`;
    await must(parts, ["zstd", "-q", "-T0", `-${recipe.compression}`, "-o", packed, place.target], options);
    const manifest = applianceManifest.parse({
      name,
      version: options.version,
      suite: recipe.suite,
      architecture: recipe.architecture,
      inputs,
      builtAt: new Date(parts.clock.wall()).toISOString(),
      sha512: await sha512Of(parts, packed, options),
      bytes: await sizeOf(parts, packed, options),
      unpackedBytes: await sizeOf(parts, place.target, options),
      packages: parsePackages((await parts.files.readText(place.packageList)) ?? ""),
    });
    // The manifest makes a build valid: gone before the archive is replaced, back after it.
    await parts.files.remove(`${path}.json`);
    await must(parts, ["install", "-D", "-m", "0644", packed, `${path}.new`], options);
    await must(parts, ["mv", "-f", `${path}.new`, path], options);
    await parts.files.write(`${path}.json`, `${JSON.stringify(manifest, null, 2)}\n`);
    const { length } = manifest.packages;
    parts.say(
      `built ${name}: ${length} packages, ${megabytes(manifest.bytes)}, ${formatDuration(parts.clock.now() - started)}`,
    );
    return { path, manifest, built: true };
  } finally {
    await parts.files.remove(scratch);
  }
}

/** Compares an archive with the manifest beside it and looks for what no template may contain. */
export async function verifyAppliance(
  parts: ApplianceParts,
  path: string,
  options: { signal?: AbortSignal } = {},
): Promise<ApplianceManifest> {
  const manifest = await readManifest(parts, path);
  if (manifest === undefined)
    throw new Failure("manifest-missing", `there is no readable manifest ${path}.json`, {
      advice: "exitnode appliance build",
    });
  const sha512 = await sha512Of(parts, path, options);
  if (sha512 !== manifest.sha512)
    throw new Failure(
      "appliance-altered",
      `${path} has SHA-512 ${sha512.slice(0, 16)}…, its manifest says ${manifest.sha512.slice(0, 16)}…`,
      { advice: "exitnode appliance build --fresh" },
    );
  await inspect(parts, path, options);
  return manifest;
}

async function inspect(parts: ApplianceParts, path: string, options: ExecOptions): Promise<void> {
  const listing = parseListing(await must(parts, ["tar", "--numeric-owner", "-tvf", path], options));
  const problems = inspectListing(listing, MASKED_UNITS);
  if (problems.length > 0)
    throw new Failure(
      "appliance-unfit",
      `${path} is not fit to make containers from: ${problems.slice(0, 8).join("; ")}`,
    );
}

async function readManifest(parts: ApplianceParts, path: string): Promise<ApplianceManifest | undefined> {
  return applianceManifest.safeParse(tryJson((await parts.files.readText(`${path}.json`)) ?? "")).data;
}

async function stillFresh(parts: ApplianceParts, path: string, inputs: string): Promise<ApplianceManifest | undefined> {
  const manifest = await readManifest(parts, path);
  if (manifest === undefined || manifest.inputs !== inputs) return undefined;
  const age = parts.clock.wall() - Date.parse(manifest.builtAt);
  if (age < 0 || age > APPLIANCE_FRESH_MS) return undefined;
  const whole = (await run(parts, ["sha512sum", "-b", path], {})).stdout.startsWith(manifest.sha512);
  return whole ? manifest : undefined;
}

async function needRootAndTools(parts: ApplianceParts, options: ExecOptions): Promise<void> {
  const user = (await must(parts, ["id", "-u"], options)).trim();
  if (user !== "0")
    throw new Failure("not-root", `the appliance is built in a chroot, which needs root; this is user ${user}`, {
      advice: "sudo exitnode appliance build",
    });
  const missing: string[] = [];
  for (const tool of ["mmdebstrap", "zstd", "tar", "unshare"])
    if ((await run(parts, ["sh", "-c", 'command -v "$1"', "sh", tool], options)).exitCode !== 0) missing.push(tool);
  if ((await parts.files.read(ARCHIVE_KEYRING)) === undefined) missing.push("debian-archive-keyring");
  if (missing.length > 0)
    throw new Failure("tools-missing", `building the appliance needs ${missing.join(", ")}`, {
      advice: `apt-get install ${missing.join(" ")}`,
    });
}

/** A tar and not a folder: owners and times are then set, whoever builds and whenever. */
async function writeOverlay(
  parts: ApplianceParts,
  folder: string,
  target: string,
  files: readonly { path: string; mode: number; content: string }[],
  options: ExecOptions,
): Promise<void> {
  for (const { path, mode, content } of files) await parts.files.write(`${folder}${path}`, content, { mode });
  const owner = ["--owner=root:0", "--group=root:0", "--sort=name", "--mtime=@0"];
  await must(
    parts,
    ["tar", "-C", folder, ...owner, "--no-recursion", "-cf", target, ...files.map((file) => `.${file.path}`)],
    options,
  );
}

/** mmdebstrap leaves out /dev or brings device nodes with it; what a container needs is the empty folder. */
async function appendDev(parts: ApplianceParts, scratch: string, target: string, epoch: number, options: ExecOptions) {
  const attributes = ["--owner=root:0", "--group=root:0", "--mode=0755", `--mtime=@${epoch}`];
  await must(parts, ["mkdir", `${scratch}/dev`], options);
  await must(parts, ["tar", "-C", scratch, ...attributes, "--no-recursion", "-rf", target, "./dev"], options);
}

async function required(parts: ApplianceParts, name: string): Promise<string> {
  const text = await parts.files.readText(`${parts.paths.package}/${name}`);
  if (text === undefined)
    throw new Failure("package-incomplete", `${parts.paths.package}/${name} is missing`, {
      advice: "install the package again",
    });
  return text;
}

async function sha512Of(parts: ApplianceParts, path: string, options: ExecOptions): Promise<string> {
  return (await must(parts, ["sha512sum", "-b", path], options)).slice(0, 128);
}

async function sizeOf(parts: ApplianceParts, path: string, options: ExecOptions): Promise<number> {
  return Number(await must(parts, ["stat", "-c", "%s", path], options));
}

const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(1)} MB`;

function run(parts: ApplianceParts, argv: readonly string[], options: ExecOptions) {
  return parts.exec.run(argv, { timeoutMs: PASS_TIMEOUT_MS, ...execOptions(options) });
}

async function must(parts: ApplianceParts, argv: readonly string[], options: ExecOptions): Promise<string> {
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
