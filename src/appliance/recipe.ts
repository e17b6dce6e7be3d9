import YAML from "yaml";
import * as z from "zod";
import { Failure } from "../kit/failure.js";
import { MASKED_UNITS, type RenderedFile } from "../netconf/containerfiles.js";

/** The declarative recipe (appliance/recipe.yaml), and the command lines it amounts to. */

const path = z.string().regex(/^\/[A-Za-z0-9_.@*/-]+$/, "must be an absolute path of plain characters");
const word = z.string().regex(/^[a-z0-9][a-z0-9.+-]*$/, "must be a Debian package or suite name");

const mode = z.number().int().min(0).max(0o777).default(0o644);
const fileHere = z.strictObject({ path, content: z.string(), mode });
/** The content is a file of appliance/files/. */
const fileBeside = z.strictObject({
  path,
  from: z.string().regex(/^[a-z0-9][a-z0-9.-]*$/, "must be a file's name"),
  mode,
});

const compression = z.discriminatedUnion("format", [
  z.strictObject({ format: z.literal("zst"), level: z.number().int().min(1).max(19) }),
  z.strictObject({
    format: z.literal("xz"),
    /** What unpacking takes in memory, besides a little. */
    dictionaryMiB: z.number().int().min(1).max(64),
    blockMiB: z.number().int().min(1).max(1_024),
  }),
]);

const recipeSchema = z.strictObject({
  suite: word,
  release: z.number().int(),
  architecture: z.literal("amd64"),
  component: word,
  epoch: z.number().int().positive(),
  packages: z.array(word).min(1),
  excludes: z.array(path),
  includes: z.array(path),
  remove: z.array(path),
  files: z.array(z.union([fileHere, fileBeside])),
  compression,
});
export type Recipe = z.output<typeof recipeSchema>;

export type ImageFile = { readonly path: string; readonly mode: number; readonly content: string };

export function parseRecipe(text: string): Recipe {
  const parsed = recipeSchema.safeParse(YAML.parse(text));
  if (parsed.success) return parsed.data;
  const issues = parsed.error.issues.map((issue) => `${issue.path.join(".")}: ${issue.message}`);
  throw new Failure("recipe-invalid", `appliance/recipe.yaml: ${issues.join("; ")}`, {
    advice: "install the package again",
  });
}

/** Proxmox VE reads the operating system, the version and the architecture of a template out of its name. */
export const applianceName = (recipe: Recipe, version: string): string =>
  `debian-${recipe.release}-exitnode_${version}_${recipe.architecture}.tar.${recipe.compression.format}`;

/** The files of ours that lie in every image; `read` gives the text of a file of appliance/files/. */
export async function imageFiles(
  recipe: Recipe,
  rendered: readonly RenderedFile[],
  read: (name: string) => Promise<string>,
): Promise<ImageFile[]> {
  const own: ImageFile[] = [];
  for (const file of recipe.files)
    own.push({ path: file.path, mode: file.mode, content: "from" in file ? await read(file.from) : file.content });
  return [...own, ...rendered.map(({ path, mode, content }) => ({ path, mode, content }))];
}

export type ArchiveSource = { readonly uri: string; readonly suite: string };

export type Workplace = {
  readonly keyring: string;
  readonly sources: readonly ArchiveSource[];
  /** A tar of imageFiles, owned by root. */
  readonly overlay: string;
  /** Where the list of installed packages is written, and the License lines of their copyright files. */
  readonly packageList: string;
  readonly licenceList: string;
  /** The image, uncompressed. */
  readonly target: string;
};

/** dpkg-query's fields, as manifest.ts reads them: one package a line, separated by tabs. */
const PACKAGE_FIELDS = ["Package", "Version", "Installed-Size", "Architecture", "source:Package", "source:Version"];
const PACKAGE_FORMAT = `${PACKAGE_FIELDS.map((field) => `\\\${${field}}`).join("\\t")}\\n`;

/** mmdebstrap runs customize hooks in a shell on the builder, with the image's root as $1. */
export function mmdebstrapArgv(recipe: Recipe, place: Workplace): string[] {
  const hooks = [
    // Removed before our files come: some are put in their place.
    `rm -f ${recipe.remove.map((pattern) => `"$1"${pattern}`).join(" ")}`,
    `tar -C "$1" --numeric-owner -xf ${quoted(place.overlay)}`,
    `mkdir -p "$1"/etc/exitnode "$1"/opt/exitnode`,
    `chroot "$1" systemd-sysusers /etc/sysusers.d/exitnode.conf`,
    ...MASKED_UNITS.map((unit) => `ln -sf /dev/null "$1"/etc/systemd/system/${unit}`),
    // Proxmox VE lets systemd do this at the first boot, other places do not.
    `chroot "$1" systemctl preset-all`,
    `chroot "$1" dpkg-query -W -f "${PACKAGE_FORMAT}" > ${quoted(place.packageList)}`,
    // Run inside, where links of one package's documentation to another's lead to the image's own.
    `chroot "$1" sh -c 'cd /usr/share/doc && grep -H "^License:" */copyright || :' > ${quoted(place.licenceList)}`,
    // Password locks and a second's timestamps of user management.
    `rm -f "$1"/etc/.pwd.lock "$1"/etc/passwd- "$1"/etc/group- "$1"/etc/shadow- "$1"/etc/gshadow-`,
  ];
  return [
    // mmdebstrap mounts the builder's /proc, /sys and /dev into the image. In namespaces of its own these mounts and
    // every process below it end with it, however it is ended: what clears the scratch folder away never meets them.
    ...["unshare", "--mount", "--propagation=private", "--pid", "--fork", "--kill-child", "--mount-proc"],
    "mmdebstrap",
    "--mode=root",
    "--format=tar",
    "--variant=apt",
    `--architectures=${recipe.architecture}`,
    `--components=${recipe.component}`,
    `--keyring=${place.keyring}`,
    `--include=${recipe.packages.join(",")}`,
    ...recipe.excludes.map((pattern) => `--dpkgopt=path-exclude=${pattern}`),
    ...recipe.includes.map((pattern) => `--dpkgopt=path-include=${pattern}`),
    ...hooks.map((hook) => `--customize-hook=${hook}`),
    // An unprivileged container cannot make device nodes; its /dev is the container manager's.
    "--skip=output/dev",
    recipe.suite,
    place.target,
    ...place.sources.map(({ uri, suite }) => `deb ${uri} ${suite} ${recipe.component}`),
  ];
}

/** Packs `target` into a file beside it, with the format's ending. */
export function compressArgv({ compression }: Recipe, target: string): string[] {
  if (compression.format === "zst") return ["zstd", "-q", "-f", "-k", "-T0", `-${compression.level}`, target];
  const { dictionaryMiB, blockMiB } = compression;
  // Always two threads: with one, xz leaves the blocks' sizes out, and the bytes would tell how many cores there were.
  const threads = ["-T2", `--block-size=${blockMiB}MiB`, "--memlimit-compress=0"];
  return ["xz", "-q", "-f", "-k", ...threads, "--x86", `--lzma2=preset=6,nice=273,dict=${dictionaryMiB}MiB`, target];
}

const quoted = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;
