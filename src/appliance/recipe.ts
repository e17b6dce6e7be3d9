import YAML from "yaml";
import * as z from "zod";
import { Failure } from "../kit/failure.js";
import { MASKED_UNITS, type RenderedFile } from "../netconf/containerfiles.js";

/** The declarative recipe (appliance/recipe.yaml), and the mmdebstrap command line it amounts to. */

const path = z.string().regex(/^\/[A-Za-z0-9_.@*/-]+$/, "must be an absolute path of plain characters");
const word = z.string().regex(/^[a-z0-9][a-z0-9.+-]*$/, "must be a Debian package or suite name");

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
  files: z.array(
    z.strictObject({ path, content: z.string(), mode: z.number().int().min(0).max(0o777).default(0o644) }),
  ),
  compression: z.number().int().min(1).max(19),
});
export type Recipe = z.output<typeof recipeSchema>;

export function parseRecipe(text: string): Recipe {
  const parsed = recipeSchema.safeParse(YAML.parse(text));
  if (parsed.success) return parsed.data;
  const issues = parsed.error.issues.map((issue) => `${issue.path.join(".")}: ${issue.message}`);
  throw new Failure("recipe-invalid", `appliance/recipe.yaml: ${issues.join("; ")}`);
}

/** Proxmox VE reads the operating system, the version and the architecture of a template out of its name. */
export const applianceName = (recipe: Recipe, version: string): string =>
  `debian-${recipe.release}-exitnode_${version}_${recipe.architecture}.tar.zst`;

/** The files of ours that lie in every image, as paths below its root. */
export function imageFiles(
  recipe: Recipe,
  rendered: readonly RenderedFile[],
): { path: string; mode: number; content: string }[] {
  return [...recipe.files, ...rendered];
}

export type ArchiveSource = { readonly uri: string; readonly suite: string };

export type Workplace = {
  readonly keyring: string;
  readonly sources: readonly ArchiveSource[];
  /** A tar of imageFiles, owned by root. */
  readonly overlay: string;
  /** Where the list of installed packages is written. */
  readonly packageList: string;
  /** The image, uncompressed. */
  readonly target: string;
};

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
    `chroot "$1" dpkg-query -W -f '\${Package}\\t\${Version}\\t\${Installed-Size}\\n' > ${quoted(place.packageList)}`,
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

const quoted = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;
