import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type koffi from "koffi";
import { Failure } from "../kit/failure.js";

/**
 * koffi, the foreign function interface, from wherever its native part is.
 *
 * koffi's own JavaScript looks for the native part relative to itself, which a single-file bundle breaks. The
 * native module is complete without it (the JavaScript adds deprecated names only), so it is loaded directly:
 * `koffi.node` beside the running file in an installation, the platform's package out of node_modules otherwise.
 */
export type Koffi = typeof koffi;

/** The name of the native part in an installation, beside the bundle. */
export const NATIVE_FILE = "koffi.node";

/** Loading twice gives the same module: Node caches it per thread. */
export function loadKoffi(from: string = import.meta.url): Koffi {
  const require = createRequire(from);
  const beside = join(dirname(fileURLToPath(from)), NATIVE_FILE);
  const wanted = [...(existsSync(beside) ? [beside] : []), `@koromix/koffi-${process.platform}-${process.arch}`];
  const reasons: string[] = [];
  for (const name of wanted) {
    try {
      return require(name) as Koffi;
    } catch (error) {
      reasons.push(`${name}: ${error instanceof Error ? error.message.split("\n")[0] : String(error)}`);
    }
  }
  throw new Failure("koffi-missing", `cannot load the native part of koffi (${reasons.join("; ")})`, {
    advice: "reinstall exitnode on this machine: npm install --global exitnode",
  });
}
