import { asFailure, Failure } from "../kit/failure.js";
import { formatDuration } from "../kit/time.js";
import { raiseLab, removeLab } from "../lab/lab.js";
import { observeNetwork, setFirewall } from "../lab/network.js";
import { findPlace } from "../lab/places.js";
import { requireTools } from "../lab/preflight.js";
import { NAT_KINDS, topology } from "../lab/topology.js";
import type { Call, Outcome } from "./command.js";
import { type Administration, type Merged, mergeFiles, withLabHosts, withoutLabHosts } from "./labhosts.js";
import { labParts, requireMachine, withLabLock } from "./labparts.js";

export async function labUp(call: Call): Promise<Outcome> {
  requireMachine(call, "lab up");
  await requireTools(call.parts.exec);
  const began = call.parts.clock.now();
  return withLabLock(async () => {
    const { access, built, started, running } = await raiseLab(labParts(call), topology, call.signal);
    const hosts = await administer(call, (administration) => withLabHosts(administration, access));
    const changed = built || started.length > 0 || hosts.length > 0;
    const took = formatDuration(call.parts.clock.now() - began);
    const inside = `${topology.places.length} places, ${started.length + running.length} daemons`;
    const again = built || started.length === 0 ? "" : `; started again: ${started.join(", ")}`;
    const added = hosts.length === 0 ? "" : `; added to the config: ${hosts.join(", ")}`;
    const said = changed
      ? `the lab is up: ${inside}${again}${added} (${took})`
      : `${ALREADY}: ${inside}; nothing changed`;
    return {
      value: { changed, built, started, running, hosts, places: topology.places.map(({ name }) => name) },
      text: `${said}\n${TRY}`,
    };
  });
}

const ALREADY = "the lab is up already";
const TRY = `  try: exitnode create --host lab
       exitnode lab exec laptop -- curl -s http://whoami.lab/
`;

export async function labDown(call: Call): Promise<Outcome> {
  requireMachine(call, "lab down");
  return withLabLock(async () => {
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

/** Lasts until the lab goes down; the topology names what it comes up with. */
export async function labNat(call: Call): Promise<Outcome> {
  requireMachine(call, "lab nat");
  const place = findPlace(topology, call.args[0] ?? "");
  const kind = NAT_KINDS.find((one) => one === call.args[1]);
  if (kind === undefined || place.gateway === undefined)
    throw new Failure(
      "usage",
      `expected cafe or home and one of ${NAT_KINDS.join(", ")}, got "${call.args.join(" ")}"`,
      {
        advice: "exitnode lab nat cafe symmetric",
      },
    );
  const state = await observeNetwork(call.parts.files, topology);
  if (state !== "up") throw new Failure("lab-absent", `the lab is ${state}, not up`, { advice: "exitnode lab up" });
  await setFirewall(call.parts.exec, { ...place, gateway: { ...place.gateway, nat: kind } });
  return { value: { place: place.name, nat: kind }, text: `the NAT of ${place.name} is ${kind}\n` };
}
