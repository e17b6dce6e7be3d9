import type { Bundled, NpmPackage } from "./bundled.js";
import { type Licence, licencesOf } from "./licences.js";
import type { ApplianceManifest, DebianPackage } from "./manifest.js";

/**
 * The list of parts, in CycloneDX 1.6 (ECMA-424): every Debian package of the image, and every npm package that is
 * bundled into the programs which are brought into containers made from it. The same image gives the same text.
 */
export type SbomFacts = {
  readonly image: Pick<ApplianceManifest, "name" | "version" | "suite" | "architecture" | "sha512" | "packages">;
  readonly release: number;
  readonly epoch: number;
  /** Licence terms by Debian package. */
  readonly licences: ReadonlyMap<string, readonly string[]>;
  readonly bundled: Bundled;
};

export function renderSbom(facts: SbomFacts): string {
  const { image } = facts;
  const document = {
    $schema: "http://cyclonedx.org/schema/bom-1.6.schema.json",
    bomFormat: "CycloneDX",
    specVersion: "1.6",
    serialNumber: `urn:uuid:${uuidOf(image.sha512)}`,
    version: 1,
    metadata: {
      timestamp: new Date(facts.epoch * 1_000).toISOString(),
      tools: { components: [{ type: "application", name: "exitnode", version: image.version }] },
      component: {
        type: "container",
        "bom-ref": image.name,
        name: image.name.replace(/_.*$/, ""),
        version: image.version,
        hashes: [{ alg: "SHA-512", content: image.sha512 }],
      },
    },
    components: [
      {
        type: "operating-system",
        "bom-ref": `debian-${facts.release}`,
        name: "debian",
        version: String(facts.release),
        description: `Debian ${facts.release} "${image.suite}", ${image.architecture}`,
      },
      ...image.packages.map((one) => debianComponent(one, facts)),
      ...Object.entries(facts.bundled)
        .sort(([left], [right]) => (left < right ? -1 : 1))
        .map(([name, packages]) => bundleComponent(name, packages, image.version)),
    ],
  };
  return `${JSON.stringify(document, null, 1)}\n`;
}

function debianComponent(one: DebianPackage, { image, release, licences }: SbomFacts) {
  const architecture = one.architecture ?? image.architecture;
  const upstream = one.source === undefined ? "" : `&upstream=${encode(`${one.source.name}@${one.source.version}`)}`;
  const purl = `pkg:deb/debian/${encode(one.name)}@${encode(one.version)}?arch=${architecture}&distro=debian-${release}${upstream}`;
  return {
    type: "library",
    "bom-ref": purl,
    name: one.name,
    version: one.version,
    ...licensed(licencesOf(licences.get(one.name) ?? [])),
    purl,
    properties: [
      { name: "debian:architecture", value: architecture },
      ...(one.source === undefined
        ? []
        : [{ name: "debian:source", value: `${one.source.name} ${one.source.version}` }]),
    ],
  };
}

/** One program with the packages inside it. A package is in several programs: each place has a reference of its own. */
function bundleComponent(name: string, packages: readonly NpmPackage[], version: string) {
  return {
    type: "application",
    "bom-ref": `bundle/${name}`,
    name,
    version,
    description: "brought into the container when it is made",
    components: packages.map((one) => {
      const [scope, short] = one.name.startsWith("@") ? one.name.split("/") : [undefined, one.name];
      const path = scope === undefined ? encode(one.name) : `${encode(scope)}/${encode(short ?? "")}`;
      return {
        type: "library",
        "bom-ref": `bundle/${name}/${one.name}@${one.version}`,
        ...(scope === undefined ? {} : { group: scope }),
        name: short ?? one.name,
        version: one.version,
        // npm's field is an SPDX expression already.
        ...(one.license === undefined ? {} : { licenses: [{ expression: one.license }] }),
        purl: `pkg:npm/${path}@${encode(one.version)}`,
      };
    }),
  };
}

function licensed(licences: readonly Licence[]) {
  return licences.length === 0 ? {} : { licenses: licences.map((license) => ({ license })) };
}

/** The image's own sum as a name-based UUID (RFC 9562 §5.8: version 8, made as one likes). */
function uuidOf(sha512: string): string {
  const variant = "89ab"[Number.parseInt(sha512[16] ?? "0", 16) % 4];
  return [
    sha512.slice(0, 8),
    sha512.slice(8, 12),
    `8${sha512.slice(13, 16)}`,
    `${variant}${sha512.slice(17, 20)}`,
    sha512.slice(20, 32),
  ].join("-");
}

/** Package URLs (purl-spec, "Rules for each purl component"): percent-encoded, the colon left as it is. */
const encode = (text: string): string => encodeURIComponent(text).replaceAll("%3A", ":");
