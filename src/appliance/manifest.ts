import * as z from "zod";

const sha512 = z.string().regex(/^[0-9a-f]{128}$/);

/** What is known of a built template, in the .json beside it. */
export const applianceManifest = z.strictObject({
  name: z.string(),
  version: z.string(),
  suite: z.string(),
  architecture: z.string(),
  /** BLAKE2s over everything the build was told: recipe, files, archive, version. */
  inputs: z.string(),
  builtAt: z.iso.datetime(),
  sha512,
  bytes: z.number().int().positive(),
  unpackedBytes: z.number().int().positive(),
  /** Of the archive before it was packed: the same where two machines have different versions of xz. */
  unpackedSha512: sha512.optional(),
  /** The list of parts beside it, in CycloneDX. */
  sbom: z.strictObject({ name: z.string(), sha512, bytes: z.number().int().positive() }).optional(),
  packages: z.array(
    z.strictObject({
      name: z.string(),
      version: z.string(),
      installedKiB: z.number(),
      architecture: z.string().optional(),
      /** The source package, where it is called or numbered differently. */
      source: z.strictObject({ name: z.string(), version: z.string() }).optional(),
    }),
  ),
});
export type ApplianceManifest = z.output<typeof applianceManifest>;
export type DebianPackage = ApplianceManifest["packages"][number];

/** dpkg-query's lines of name, version, size, architecture, source package and its version. */
export function parsePackages(lines: string): DebianPackage[] {
  return lines
    .split("\n")
    .filter((line) => line !== "")
    .map((line): DebianPackage => {
      const [name = "", version = "", size, architecture = "", sourceName = "", sourceVersion = ""] = line.split("\t");
      const ownSource = sourceName === "" || (sourceName === name && sourceVersion === version);
      return {
        name,
        version,
        installedKiB: Number(size) || 0,
        ...(architecture === "" ? {} : { architecture }),
        ...(ownSource ? {} : { source: { name: sourceName, version: sourceVersion } }),
      };
    })
    .sort((left, right) => (left.name < right.name ? -1 : 1));
}

/** How two lists of packages differ, a line each. */
export function packageDifferences(before: readonly DebianPackage[], after: readonly DebianPackage[]): string[] {
  const versions = (packages: readonly DebianPackage[]) => new Map(packages.map((one) => [one.name, one.version]));
  const [was, is] = [versions(before), versions(after)];
  return [...new Set([...was.keys(), ...is.keys()])]
    .sort()
    .filter((name) => was.get(name) !== is.get(name))
    .map((name) => `${name} ${was.get(name) ?? "(absent)"} → ${is.get(name) ?? "(absent)"}`);
}

/** One member of the archive, as `tar --numeric-owner -tv` lists it. */
export type Listed = { readonly mode: string; readonly owner: string; readonly bytes: number; readonly path: string };

export function parseListing(text: string): Listed[] {
  return text.split("\n").flatMap((line) => {
    const match = /^(\S{10}) (\d+\/\d+) +(\d+(?:,\d+)?) \S+ \S+ \.(\/.*?)(?: -> .*| link to .*)?$/.exec(line);
    if (match === null) return [];
    const [, mode = "", owner = "", size = "", path = ""] = match;
    return [{ mode, owner, bytes: Number(size) || 0, path: path.length > 1 ? path.replace(/\/$/, "") : path }];
  });
}

/** What must not be in a template that many containers are made from, and what must. */
export function inspectListing(listing: readonly Listed[], masked: readonly string[]): string[] {
  const byPath = new Map(listing.map((entry) => [entry.path, entry]));
  const problems: string[] = [];
  for (const { path, mode } of listing) {
    if (/^\/etc\/ssh\/ssh_host_/.test(path)) problems.push(`${path}: a host key that every container would share`);
    if (mode.startsWith("c") || mode.startsWith("b"))
      problems.push(`${path}: a device node, which an unprivileged container cannot make`);
    if (BUILDERS.includes(path)) problems.push(`${path}: the builder's`);
  }
  const machineId = byPath.get("/etc/machine-id");
  if (machineId !== undefined && machineId.bytes > 0) problems.push("/etc/machine-id: not empty");
  for (const unit of masked)
    if (!byPath.get(`/etc/systemd/system/${unit}`)?.mode.startsWith("l")) problems.push(`${unit}: not masked`);
  for (const path of NEEDED) if (!byPath.has(path)) problems.push(`${path}: missing`);
  return problems;
}

/** Names of the machine that built it, and its mirror. */
const BUILDERS = ["/etc/hostname", "/etc/resolv.conf", "/etc/apt/sources.list"];
const NEEDED = ["/dev", "/usr/bin/node", "/usr/sbin/sshd", "/usr/sbin/nft", "/etc/nftables.conf"];
