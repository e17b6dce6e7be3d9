import { join } from "node:path";
import { asFailure, Failure } from "../kit/failure.js";
import { formatDuration } from "../kit/time.js";
import { raiseLab, readSituation, refuseAnothers, removeLab } from "../lab/lab.js";
import { requireTools, TOOLS, UPNP_TOOL } from "../lab/preflight.js";
import { USUAL } from "../lab/situation.js";
import { topology } from "../lab/topology.js";
import { raiseVps, type VpsOrder } from "../lab/vps.js";
import type { Call, Outcome } from "./command.js";
import { type Administration, type Merged, mergeFiles, withLabHosts, withoutLabHosts } from "./labhosts.js";
import { labParts, requireMachine, withLabLock } from "./labparts.js";
import { describeSituation, situationOptions } from "./labsituation.js";

export async function labUp(call: Call): Promise<Outcome> {
  requireMachine(call, "lab up");
  const change = situationOptions(call.options);
  const upnp = change(USUAL).upnp;
  await requireTools(call.parts.exec, upnp ? [...TOOLS, UPNP_TOOL] : TOOLS);
  const began = call.parts.clock.now();
  return withLabLock(async () => {
    const owner = await ownerOf(call);
    // First: it takes longest, and may fail.
    const order = change(await readSituation(call.parts.files)).vps ? await orderVps(call) : undefined;
    const lab = await raiseLab(labParts(call), topology, change, call.signal, owner);
    const { accesses, built, started, running, situation, places } = lab;
    const vps = order !== undefined && (await raiseVps(call.parts, order, call.signal));
    const hosts = await administer(call, (administration) => withLabHosts(administration, accesses));
    const changed = built || lab.reshaped || vps || started.length > 0 || hosts.length > 0;
    const took = formatDuration(call.parts.clock.now() - began);
    const inside = `${places.length} places, ${started.length + running.length} daemons`;
    const again = built || started.length === 0 ? "" : `; started again: ${started.join(", ")}`;
    const added = hosts.length === 0 ? "" : `; added to the config: ${hosts.join(", ")}`;
    const said = changed
      ? `the lab is up: ${inside}${again}${added} (${took})`
      : `${ALREADY}: ${inside}; nothing changed`;
    return {
      value: { changed, built, started, running, hosts, situation, places },
      text: `${said}\n${describeSituation(situation)}${TRY}`,
    };
  });
}

const ALREADY = "the lab is up already";
const TRY = `  try: exitnode create --host lab
       exitnode lab exec laptop -- curl -s http://whoami.lab/
`;

/** Who --for says this is, once it is sure that no lab of anybody else is up. */
async function ownerOf({ options, parts }: Call): Promise<string | undefined> {
  const name = options.for;
  if (typeof name !== "string") return undefined;
  if (!/^[\w.-]{1,64}$/.test(name))
    throw new Failure("usage", `--for takes up to 64 letters, digits, dots and dashes, got "${name}"`, {
      advice: "exitnode lab up --for demo",
    });
  await refuseAnothers(parts.files, topology, name);
  return name;
}

/** The rented server: from the container template, open to this administrator's SSH key. */
async function orderVps({ parts, signal }: Call): Promise<VpsOrder> {
  const [{ buildAppliance }, { ensureSshKey }, { version }] = await Promise.all([
    import("../appliance/image.js"),
    import("../sys/sshkey.js"),
    import("../version.js"),
  ]);
  const { path } = await buildAppliance(parts, { version, signal });
  const { publicKey } = await ensureSshKey(parts.files, parts.paths.config);
  return { template: path, publicKey, privateKeyPath: join(parts.paths.config, "ssh_ed25519") };
}

export async function labDown(call: Call): Promise<Outcome> {
  requireMachine(call, "lab down");
  return withLabLock(async () => {
    await ownerOf(call);
    const hosts = await administer(call, withoutLabHosts);
    const removed = await removeLab(labParts(call), topology, { purge: call.options.purge === true });
    const changed = removed || hosts.length > 0;
    return { value: { changed, hosts }, text: changed ? "the lab is gone\n" : "there is no lab; nothing changed\n" };
  });
}

/** The lab itself does not depend on the config: one that cannot be read is told, and left to its owner. */
async function administer(call: Call, merge: (administration: Administration) => Merged): Promise<readonly string[]> {
  const { files, paths, say } = call.parts;
  try {
    const { changed, foreign } = await mergeFiles(files, paths.config, merge);
    for (const name of foreign) say(`the host "${name}" in the config is not the lab's, and stays as it is`);
    return changed;
  } catch (error) {
    const { code, message } = asFailure(error);
    if (code !== "config-invalid") throw error;
    say(`the config stays as it is: ${message}`);
    return [];
  }
}
