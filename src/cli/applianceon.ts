import { createHash } from "node:crypto";
import { applianceFolder, type BuildOptions, type Built, buildAppliance } from "../appliance/image.js";
import { Failure } from "../kit/failure.js";
import { tryLock } from "../sys/lock.js";
import { inBuilder } from "./appliancebuilder.js";
import { fetchBuilt, prepareBuild, remoteParts } from "./applianceremote.js";
import type { Call } from "./command.js";
import { openedHost, provisionParts } from "./createparts.js";
import { noProgress } from "./createprogress.js";

/** `appliance build --on HOST`: for whoever has no Debian machine but the Proxmox host itself. */
export async function buildOnHost(call: Call, hostName: string, options: BuildOptions): Promise<Built> {
  const { parts, signal } = call;
  const unlock = await tryLock(`exitnode-build-${parts.paths.state}-${hostName}`);
  if (unlock === undefined)
    throw new Failure("already-running", `another build on ${hostName} is running here`, {
      advice: "wait for it to end",
    });
  // Its requests go on after Ctrl-C: the container is still to be taken away.
  const unbroken = { ...call, options: { ...call.options, host: hostName }, signal: new AbortController().signal };
  const { opened, request } = await openedHost(unbroken);
  try {
    const provision = await provisionParts(call, opened, noProgress);
    return await inBuilder({ ...provision, say: parts.say }, request, async (ssh) => {
      parts.say("installing mmdebstrap in it");
      await prepareBuild(ssh, options);
      const { folder: _, ...inside } = options;
      const built = await buildAppliance(remoteParts(parts, ssh), { ...inside, fresh: true });
      const sha512 = (content: Uint8Array): string => createHash("sha512").update(content).digest("hex");
      const target = options.folder ?? applianceFolder(parts);
      return fetchBuilt(built, { ssh, files: parts.files, say: parts.say }, target, sha512, signal);
    });
  } finally {
    opened.pve.close();
    await unlock();
  }
}
