import { Failure } from "../kit/failure.js";
import { tryJson } from "../kit/json.js";
import type { Key } from "../kit/key.js";
import { MASKED_UNITS } from "../netconf/containerfiles.js";
import type { ExecOptions } from "../sys/exec.js";
import {
  type ApplianceManifest,
  applianceManifest,
  inspectListing,
  packageDifferences,
  parseListing,
} from "./manifest.js";
import { isSignedBy } from "./signature.js";
import { type ApplianceParts, must, sha512Of } from "./workshop.js";

/** Looks at a template without making one: who signed it, whether it is whole, and whether it is fit. */

const REBUILD = "exitnode appliance build --fresh";

/** The signature is over the manifest, and the manifest has the sums of everything else. */
export async function verifyAppliance(
  parts: ApplianceParts,
  path: string,
  options: { signal?: AbortSignal; publicKey: Key },
): Promise<ApplianceManifest> {
  const manifest = await readManifest(parts, path);
  if (manifest === undefined)
    throw new Failure("manifest-missing", `there is no readable manifest ${path}.json`, {
      advice: "exitnode appliance build",
    });
  await checkSignature(parts, path, options.publicKey);
  await checkSum(parts, path, manifest.sha512, options);
  if (manifest.sbom !== undefined) await checkSum(parts, `${path}.cdx.json`, manifest.sbom.sha512, options);
  await inspect(parts, path, options);
  return manifest;
}

/** What a rebuild says of the original: silence, or a Failure that names what differs. */
export function compareBuilds(original: ApplianceManifest, rebuilt: ApplianceManifest): void {
  if (rebuilt.sha512 === original.sha512) return;
  const differing = packageDifferences(original.packages, rebuilt.packages);
  if (differing.length > 0)
    throw new Failure(
      "appliance-not-reproduced",
      `the archive has moved on since ${original.builtAt}: ${differing.slice(0, 8).join(", ")}${differing.length > 8 ? ` and ${differing.length - 8} more` : ""}`,
      {
        advice: `rebuild from the archive as it was then: --mirror <a Debian snapshot>; or take a new one: ${REBUILD}`,
      },
    );
  if (rebuilt.unpackedSha512 === original.unpackedSha512)
    throw new Failure(
      "appliance-packed-differently",
      `the content is the same to the byte, only packed by another version of the compressor`,
      { advice: "compare on a machine with the release of Debian that it was built on" },
    );
  const inputs =
    original.inputs === rebuilt.inputs ? "the same recipe" : "another recipe, mirror or version of exitnode";
  throw new Failure(
    "appliance-not-reproduced",
    `the rebuild has SHA-512 ${rebuilt.sha512.slice(0, 16)}…, expected ${original.sha512.slice(0, 16)}…; it was made from the same packages and ${inputs}`,
    { advice: `do not use this template unless you know why; a new one: ${REBUILD}` },
  );
}

/** Looks through the archive for what no template may contain. */
export async function inspect(parts: ApplianceParts, path: string, options: ExecOptions): Promise<void> {
  const listing = parseListing(await must(parts, ["tar", "--numeric-owner", "-tvf", path], options));
  const problems = inspectListing(listing, MASKED_UNITS);
  if (problems.length > 0)
    throw new Failure(
      "appliance-unfit",
      `${path} is not fit to make containers from: ${problems.slice(0, 8).join("; ")}`,
      { advice: REBUILD },
    );
}

export async function readManifest(parts: ApplianceParts, path: string): Promise<ApplianceManifest | undefined> {
  return applianceManifest.safeParse(tryJson((await parts.files.readText(`${path}.json`)) ?? "")).data;
}

async function checkSignature(parts: ApplianceParts, path: string, publicKey: Key): Promise<void> {
  const text = await parts.files.read(`${path}.json`);
  const signature = await parts.files.read(`${path}.json.sig`);
  if (text === undefined || signature === undefined)
    throw new Failure("signature-missing", `there is no signature ${path}.json.sig`, {
      advice: "exitnode appliance build   (which signs what it built)",
    });
  if (!isSignedBy(publicKey, text, signature))
    throw new Failure("signature-invalid", `${path}.json was not signed by ${publicKey}, or altered since`, {
      advice: `name the key of who built it, with --public-key <KEY>; or make your own: ${REBUILD}`,
    });
}

async function checkSum(parts: ApplianceParts, path: string, expected: string, options: ExecOptions): Promise<void> {
  if ((await parts.files.list(path.replace(/[^/]*$/, "") || ".")).includes(path.replace(/^.*\//, "")) === false)
    throw new Failure("appliance-missing", `there is no ${path}`, { advice: REBUILD });
  const sha512 = await sha512Of(parts, path, options);
  if (sha512 !== expected)
    throw new Failure(
      "appliance-altered",
      `${path} has SHA-512 ${sha512.slice(0, 16)}…, its manifest says ${expected.slice(0, 16)}…`,
      { advice: REBUILD },
    );
}
