import { toHex, utf8 } from "../kit/bytes.js";
import { hash } from "../kit/crypto.js";
import { Failure } from "../kit/failure.js";
import { formatDuration, HOUR, MINUTE, type Millis } from "../kit/time.js";
import { MASKED_UNITS, readTemplates, renderContainerFiles } from "../netconf/containerfiles.js";
import type { ExecOptions } from "../sys/exec.js";
import { type Bundled, bundledForContainers } from "./bundled.js";
import { parseLicences } from "./licences.js";
import { type ApplianceManifest, applianceManifest, parsePackages } from "./manifest.js";
import { APT_TARGETS_ARGV, archiveSources, explainBuildFailure } from "./mirror.js";
import {
  applianceName,
  compressArgv,
  type ImageFile,
  imageFiles,
  mmdebstrapArgv,
  parseRecipe,
  type Recipe,
  type Workplace,
} from "./recipe.js";
import { renderSbom } from "./sbom.js";
import { inspect, readManifest } from "./verify.js";
import {
  type ApplianceParts,
  ARCHIVE_KEYRING,
  megabytes,
  must,
  needRootAndTools,
  required,
  run,
  sha512Of,
  sizeOf,
} from "./workshop.js";

/** Makes the container template with mmdebstrap, checks it, and leaves it in a folder with its manifest and SBOM. */

export type BuildOptions = {
  readonly version: string;
  /** Packages come from here and not from apt's own mirror. */
  readonly mirror?: string;
  /** Build even if the same was built lately. */
  readonly fresh?: boolean;
  /** Where it is put; default: the cache, where `create` and `upload` look for it. */
  readonly folder?: string;
  readonly signal?: AbortSignal;
};

export type Built = {
  readonly path: string;
  readonly manifest: ApplianceManifest;
  /** False when an earlier build of the same inputs was still there. */
  readonly built: boolean;
};

/** The archive publishes security updates daily; a template older than this is built anew. */
const APPLIANCE_FRESH_MS: Millis = 7 * 24 * HOUR;
/** 20 s on a fast mirror and a minute of packing; a slow line and a slow machine get their chance. */
const BUILD_TIMEOUT_MS: Millis = 30 * MINUTE;

export const applianceFolder = (parts: ApplianceParts): string => `${parts.paths.cache}/appliance`;

export async function buildAppliance(parts: ApplianceParts, options: BuildOptions): Promise<Built> {
  const started = parts.clock.now();
  const recipe = parseRecipe(await required(parts, "appliance/recipe.yaml"));
  const sources = await readTemplates((name) => parts.files.readText(`${parts.paths.package}/templates/${name}`));
  const files = await imageFiles(recipe, renderContainerFiles(sources, {}), (name) =>
    required(parts, `appliance/files/${name}`),
  );
  const bundled = await readBundled(parts);
  const targets = options.mirror === undefined ? (await aptTargets(parts, options)).stdout : "";
  const archive = archiveSources(targets, recipe.suite, options.mirror);
  const told = [recipe, files, MASKED_UNITS, archive, bundled, options.version];
  const inputs = toHex(hash(utf8(JSON.stringify(told))));

  const name = applianceName(recipe, options.version);
  const path = `${options.folder ?? applianceFolder(parts)}/${name}`;
  const known = options.fresh ? undefined : await stillFresh(parts, path, inputs);
  if (known !== undefined) {
    parts.say(`the appliance ${name} is there already (${megabytes(known.bytes)}, built ${known.builtAt})`);
    return { path, manifest: known, built: false };
  }

  const packer = recipe.compression.format === "xz" ? "xz" : "zstd";
  await needRootAndTools(parts, ["mmdebstrap", packer, "tar", "unshare"], options);
  const scratch = (await must(parts, ["mktemp", "-d", "--tmpdir", "exitnode-appliance.XXXXXXXX"], options)).trim();
  try {
    const place: Workplace = {
      keyring: ARCHIVE_KEYRING,
      sources: archive,
      overlay: `${scratch}/overlay.tar`,
      packageList: `${scratch}/packages`,
      licenceList: `${scratch}/licences`,
      target: `${scratch}/image.tar`,
    };
    await writeOverlay(parts, `${scratch}/overlay`, place.overlay, files, options);
    parts.say(`building ${name}: Debian ${recipe.suite}, ${recipe.packages.length} packages and what they need`);
    await makeImage(parts, name, recipe, place, scratch, options);
    await inspect(parts, place.target, options);
    parts.say(`packing it (${formatDuration(parts.clock.now() - started)} so far)`);
    await must(parts, compressArgv(recipe, place.target), { ...options, timeoutMs: BUILD_TIMEOUT_MS });
    const packed = `${place.target}.${recipe.compression.format}`;
    const image = {
      name,
      version: options.version,
      suite: recipe.suite,
      architecture: recipe.architecture,
      sha512: await sha512Of(parts, packed, options),
      packages: parsePackages((await parts.files.readText(place.packageList)) ?? ""),
    };
    const licences = parseLicences((await parts.files.readText(place.licenceList)) ?? "");
    const sbom = renderSbom({ image, release: recipe.release, epoch: recipe.epoch, licences, bundled });
    await parts.files.write(`${scratch}/sbom`, sbom);
    const manifest = applianceManifest.parse({
      ...image,
      inputs,
      builtAt: new Date(parts.clock.wall()).toISOString(),
      bytes: await sizeOf(parts, packed, options),
      unpackedBytes: await sizeOf(parts, place.target, options),
      unpackedSha512: await sha512Of(parts, place.target, options),
      sbom: {
        name: `${name}.cdx.json`,
        sha512: await sha512Of(parts, `${scratch}/sbom`, options),
        bytes: utf8(sbom).length,
      },
    });
    // The manifest makes a build valid: gone before the archive is replaced, back after it. A signature was the old one's.
    await parts.files.remove(`${path}.json`);
    await parts.files.remove(`${path}.json.sig`);
    await must(parts, ["install", "-D", "-m", "0644", packed, `${path}.new`], options);
    await must(parts, ["mv", "-f", `${path}.new`, path], options);
    await parts.files.write(`${path}.cdx.json`, sbom);
    await parts.files.write(`${path}.json`, `${JSON.stringify(manifest, null, 2)}\n`);
    const took = formatDuration(parts.clock.now() - started);
    parts.say(`built ${name}: ${manifest.packages.length} packages, ${megabytes(manifest.bytes)}, ${took}`);
    return { path, manifest, built: true };
  } finally {
    await parts.files.remove(scratch);
  }
}

async function makeImage(
  parts: ApplianceParts,
  name: string,
  recipe: Recipe,
  place: Workplace,
  scratch: string,
  options: ExecOptions,
): Promise<void> {
  const ran = await run(parts, mmdebstrapArgv(recipe, place), {
    ...options,
    timeoutMs: BUILD_TIMEOUT_MS,
    env: { SOURCE_DATE_EPOCH: String(recipe.epoch), TMPDIR: scratch, LC_ALL: "C.UTF-8", TZ: "UTC" },
  }).catch((error: unknown) => {
    if (!options.signal?.aborted) throw error;
    throw new Failure("interrupted", `the build of ${name} was interrupted; nothing of it is left`, {
      advice: "exitnode appliance build",
    });
  });
  if (ran.exitCode !== 0) throw explainBuildFailure(ran.stderr, recipe.suite, ARCHIVE_KEYRING);
  await appendDev(parts, scratch, place.target, recipe.epoch, options);
}

async function stillFresh(parts: ApplianceParts, path: string, inputs: string): Promise<ApplianceManifest | undefined> {
  const manifest = await readManifest(parts, path);
  if (manifest === undefined || manifest.inputs !== inputs) return undefined;
  const age = parts.clock.wall() - Date.parse(manifest.builtAt);
  if (age < 0 || age > APPLIANCE_FRESH_MS) return undefined;
  const whole = (await run(parts, ["sha512sum", "-b", path], {})).stdout.startsWith(manifest.sha512);
  return whole ? manifest : undefined;
}

/** A machine without apt has no archive to tell of; archiveSources says what to do then. */
function aptTargets(parts: ApplianceParts, options: ExecOptions) {
  return run(parts, [...APT_TARGETS_ARGV], options).catch(() => ({ stdout: "" }));
}

/** A checkout that was not built for shipping has none: its SBOM then lists Debian's packages alone, and that is said. */
async function readBundled(parts: ApplianceParts): Promise<Bundled> {
  const text = await parts.files.readText(`${parts.paths.package}/dist/bundled.json`);
  if (text !== undefined) return bundledForContainers(text);
  parts.say("there is no dist/bundled.json: the SBOM lists no npm packages (npm run build makes it)");
  return {};
}

/** A tar and not a folder: owners and times are then set, whoever builds and whenever. */
async function writeOverlay(
  parts: ApplianceParts,
  folder: string,
  target: string,
  files: readonly ImageFile[],
  options: ExecOptions,
): Promise<void> {
  for (const { path, mode, content } of files) await parts.files.write(`${folder}${path}`, content, { mode });
  const owner = ["--owner=root:0", "--group=root:0", "--sort=name", "--mtime=@0"];
  const names = files.map((file) => `.${file.path}`);
  await must(parts, ["tar", "-C", folder, ...owner, "--no-recursion", "-cf", target, ...names], options);
}

/** mmdebstrap leaves out /dev or brings device nodes with it; what a container needs is the empty folder. */
async function appendDev(parts: ApplianceParts, scratch: string, target: string, epoch: number, options: ExecOptions) {
  const attributes = ["--owner=root:0", "--group=root:0", "--mode=0755", `--mtime=@${epoch}`];
  await must(parts, ["mkdir", `${scratch}/dev`], options);
  await must(parts, ["tar", "-C", scratch, ...attributes, "--no-recursion", "-rf", target, "./dev"], options);
}
