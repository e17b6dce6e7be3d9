import { createHash } from "node:crypto";
import type { Payload } from "../../src/provision/payload.js";
import type { RunParts } from "./faultparts.js";

/** A program with another agent in it; "broken" is one that never runs. */
export function payloadOf(payload: Payload, version: string): Payload {
  const agent = new TextEncoder().encode(`agent.js version ${version}`);
  const sum = createHash("sha256").update(agent).digest("hex");
  return {
    ...payload,
    version,
    bundles: { ...payload.bundles, "agent.js": agent },
    bundleSha256: { ...payload.bundleSha256, "agent.js": sum },
  };
}

export const withVersion = (parts: RunParts, version: string): RunParts => ({
  ...parts,
  payload: async () => payloadOf(await parts.payload(), version),
});
