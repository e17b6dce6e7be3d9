import * as z from "zod";
import { Failure } from "../kit/failure.js";
import type { Cidr } from "../kit/ip.js";
import { tryJson } from "../kit/json.js";
import { shellWord } from "../kit/shell.js";
import type { LocalResolver } from "../netconf/clientdns.js";
import {
  type HostNet,
  type ObservedHostNet,
  type Previous,
  planHostNet,
  previousOf,
  type Step,
} from "../netconf/hostnet.js";
import { type Observation, type Output, observeHostNet, readHostNet } from "../netconf/hostnetobserve.js";
import type { Exec } from "../sys/exec.js";
import type { Files } from "../sys/files.js";
import type { AgentConfig } from "../wire/agentconfig.js";
import type { NetworkMap } from "../wire/map.js";
import { type Choice, FWMARK, tunnelRoutes } from "./desired.js";
import { setFilter } from "./filter.js";
import { forgetAnswers } from "./names/forget.js";
import { clearSubnets, setSubnets } from "./subnetrouter.js";

/** Makes the machine's routes, rules and DNS match, and gives them back. */
export type NetworkParts = {
  readonly exec: Exec;
  readonly files: Files;
  readonly folders: { readonly var: string };
  readonly uid: number | undefined;
};

/** What was there before us: kept on disk, for the undo may be another process's, after a crash. */
const PREVIOUS_FILE = "network-before.json";
const previousFile = z.object({ rpFilterAll: z.number().int().optional() });

/** `near`: the networks this machine is in. */
export async function setNetwork(
  parts: NetworkParts,
  config: AgentConfig,
  map: NetworkMap,
  choice: Choice,
  resolver: LocalResolver | undefined,
  near: readonly Cidr[],
): Promise<void> {
  await reach(parts, config.interface, {
    device: config.interface,
    mtu: map.mtu,
    addresses: map.self.addresses,
    routes: tunnelRoutes(map, choice),
    everything: choice.exit !== undefined,
    fwmark: FWMARK,
    uid: parts.uid,
    escapes: [],
    // What is passed on into them must not come back by the exit.
    direct: config.advertise ?? [],
    ...{ resolver, near },
  });
  await setSubnets(parts, config);
}

/** Everything of ours is gone afterwards; safe to repeat. */
export async function clearNetwork(parts: NetworkParts, config: Pick<AgentConfig, "interface">): Promise<void> {
  const { dns } = await reach(parts, config.interface, undefined);
  if (dns !== undefined) await forgetAnswers(parts);
  await setFilter(parts.exec, config.interface, undefined);
  await parts.files.remove(`${parts.folders.var}/${PREVIOUS_FILE}`);
  await clearSubnets(parts);
}

/** What was there before. */
async function reach(parts: NetworkParts, device: string, want: HostNet | undefined): Promise<ObservedHostNet> {
  const observed = await observe(parts, device);
  const previous = previousOf(want, observed);
  if (want !== undefined && JSON.stringify(previous) !== JSON.stringify(observed.previous))
    await parts.files.write(`${parts.folders.var}/${PREVIOUS_FILE}`, `${JSON.stringify(previous)}\n`);
  for (const step of planHostNet(want, observed)) await run(parts.exec, step);
  return observed;
}

/**
 * One program asks them all: starting one holds up whatever else this process does, and a dozen at once are felt on a
 * busy machine by who waits for the first packet.
 */
async function observe({ exec, files, folders }: NetworkParts, device: string): Promise<ObservedHostNet> {
  const asked = observeHostNet(device);
  const line = (argv: readonly string[]): string => `${argv.map(shellWord).join(" ")}; printf '\\000%d\\000' $?`;
  const { stdout } = await exec.run(["sh", "-c", asked.map(({ argv }) => line(argv)).join("\n")]);
  const said = stdout.split("\0");
  const outputs: Partial<Record<Observation, Output>> = {};
  for (const [i, { name }] of asked.entries())
    outputs[name] = { stdout: said[2 * i] ?? "", exitCode: Number(said[2 * i + 1] ?? 1) };
  const previous: Previous = readPrevious(await files.readText(`${folders.var}/${PREVIOUS_FILE}`));
  return readHostNet(device, outputs as Record<Observation, Output>, previous);
}

function readPrevious(text: string | undefined): Previous {
  const parsed = previousFile.safeParse(tryJson(text ?? ""));
  return parsed.success && parsed.data.rpFilterAll !== undefined ? { rpFilterAll: parsed.data.rpFilterAll } : {};
}

async function run(exec: Exec, { argv, input, why }: Step): Promise<void> {
  const ran = await exec.run(argv, input === undefined ? {} : { input });
  if (ran.exitCode !== 0)
    throw new Failure("network-not-set", `${argv.join(" ")} (${why}) failed: ${ran.stderr.trim().slice(0, 300)}`, {
      advice: "exitnode down restores the machine's own routing",
    });
}
