import { resolve } from "node:path";
import { buildAppliance } from "../appliance/image.js";
import { compareBuilds, verifyAppliance } from "../appliance/verify.js";
import { version } from "../version.js";
import { signAppliance, verifyingKey } from "./appliancekey.js";
import { buildOnHost } from "./applianceon.js";
import type { Call, Outcome } from "./command.js";

/** `appliance build` and `appliance verify`. */

export async function buildAction(call: Call): Promise<Outcome> {
  const { options, parts } = call;
  const { mirror, output, on } = options;
  const wanted = {
    version,
    signal: call.signal,
    fresh: options.fresh === true,
    ...(typeof output === "string" ? { folder: resolve(output) } : {}),
    ...(typeof mirror === "string" ? { mirror } : {}),
  };
  const built = typeof on === "string" ? await buildOnHost(call, on, wanted) : await buildAppliance(parts, wanted);
  const publicKey = await signAppliance(parts, built.path);
  return {
    value: { path: built.path, built: built.built, publicKey, ...built.manifest },
    text: `${built.path}\nsha512 ${built.manifest.sha512}\nsigned by ${publicKey}`,
  };
}

export async function verifyAction({ args: [file = ""], options, parts, signal }: Call): Promise<Outcome> {
  const publicKey = await verifyingKey(parts, options.publicKey);
  const manifest = await verifyAppliance(parts, file, { signal, publicKey });
  const rebuilt = options.rebuild === true;
  if (rebuilt) await rebuildAndCompare({ options, parts, signal }, manifest);
  const said = `${manifest.name} is whole: ${manifest.packages.length} packages, signed by ${publicKey}, sha512 ${manifest.sha512.slice(0, 32)}…`;
  return {
    value: { path: file, publicKey, rebuilt, ...manifest },
    text: rebuilt ? `${said}\na rebuild is the same to the byte` : said,
  };
}

/** In a folder of its own, gone afterwards: the cache keeps what it has. */
async function rebuildAndCompare(
  { options, parts, signal }: Pick<Call, "options" | "parts" | "signal">,
  manifest: Awaited<ReturnType<typeof verifyAppliance>>,
): Promise<void> {
  const folder = `${parts.paths.cache}/rebuild-${process.pid}`;
  try {
    const { mirror } = options;
    const again = await buildAppliance(parts, {
      version: manifest.version,
      signal,
      fresh: true,
      folder,
      ...(typeof mirror === "string" ? { mirror } : {}),
    });
    compareBuilds(manifest, again.manifest);
  } finally {
    await parts.files.remove(folder);
  }
}
