import * as z from "zod";
import { Failure } from "../kit/failure.js";
import { tryJson } from "../kit/json.js";

/** dist/bundled.json: which npm packages each program of dist/ was bundled from, as the build found them. */
const bundledSchema = z.record(
  z.string(),
  z.array(z.strictObject({ name: z.string(), version: z.string(), license: z.string().optional() })),
);
export type Bundled = z.output<typeof bundledSchema>;
export type NpmPackage = Bundled[string][number];

/** What goes into containers: the command line stays on the administrator's machine. */
export function bundledForContainers(text: string): Bundled {
  const parsed = bundledSchema.safeParse(tryJson(text));
  if (!parsed.success)
    throw new Failure("package-incomplete", "dist/bundled.json is not the list of packages that the build writes", {
      advice: "npm run build   (or install the package again)",
    });
  return Object.fromEntries(Object.entries(parsed.data).filter(([name]) => !name.startsWith("exitnode")));
}
