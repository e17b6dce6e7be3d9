import { Failure } from "../kit/failure.js";
import type { Wanted } from "../provision/run.js";
import { DEFAULTS, parseOptions } from "../provision/spec.js";
import type { Call } from "./command.js";
import { readConfig } from "./config.js";

/** What the command line asks for. */
export async function wantedExitNode(call: Call): Promise<Wanted> {
  const { name, coordinator } = call.options;
  if (typeof coordinator === "string") await checkCoordinator(call, coordinator);
  return { name: typeof name === "string" ? name : DEFAULTS.name, given: parseOptions(call.options) };
}

/** One coordinator per configuration: a device of two networks would need two of everything. */
async function checkCoordinator({ parts }: Call, url: string): Promise<void> {
  const record = (await readConfig(parts.files, parts.paths.config)).coordinator;
  const wanted = URL.canParse(url) ? new URL(url).origin : url;
  const known = [...(record?.urls ?? []), ...(record?.adminUrls ?? [])].map((one) => new URL(one).origin);
  if (known.includes(wanted)) return;
  throw new Failure(
    "coordinator-unknown",
    `the config knows no coordinator at ${url}; it knows: ${[...new Set(known)].join(", ") || "none"}`,
    {
      advice: `put it under coordinator: in ${parts.paths.config}/config.yaml, or leave --coordinator out`,
    },
  );
}
