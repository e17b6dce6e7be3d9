import { createHash } from "node:crypto";
import { join } from "node:path";
import { Failure } from "../kit/failure.js";
import type { Bundle } from "../provision/services.js";
import { otherStunPortBeside } from "../wire/relayconfig.js";
import type { Parts } from "./command.js";

/** What this package brings along for services on other machines. */
export const sha256Hex = (content: string | Uint8Array): string => createHash("sha256").update(content).digest("hex");

export function templateOf({ files, paths }: Parts): (name: string) => Promise<string | undefined> {
  return (name) => files.readText(join(paths.package, "templates", name));
}

export async function readBundles({ files, paths }: Parts, names: readonly string[]): Promise<Bundle[]> {
  return Promise.all(
    names.map(async (from) => {
      const path = join(paths.package, "dist", from);
      const content = await files.read(path);
      if (content === undefined)
        throw new Failure("bundle-missing", `there is no ${path}, which goes to the machine`, {
          advice: `in ${paths.package}: npm run build`,
        });
      return { from, content };
    }),
  );
}

/** An https URL of a service from --url, or from the machine's address. */
export function urlFor(given: string | undefined, host: string): string {
  const text = given ?? `https://${host.includes(":") ? `[${host}]` : host}`;
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url?.protocol !== "https:" || url.pathname !== "/" || url.search !== "" || url.username !== "")
    throw new Failure("usage", `expected --url https://name[:port], got "${text}"`);
  return url.origin;
}

export const portOf = (url: string): number => Number(new URL(url).port || 443);
export const hostOf = (url: string): string => new URL(url).hostname.replace(/^\[|\]$/g, "");

/** Where STUN is to be answered, from an option. */
export function stunPortsFrom(given: unknown): { stunPort: number; otherStunPort: number } {
  const stunPort = given === undefined ? 3_478 : Number(given);
  if (Number.isInteger(stunPort) && stunPort >= 1 && stunPort <= 65_535)
    return { stunPort, otherStunPort: otherStunPortBeside(stunPort) };
  throw new Failure("usage", `expected --stun-port from 1 to 65535, got "${String(given)}"`);
}
