import { join } from "node:path";
import { tryJson } from "../kit/json.js";
import { networkMap } from "../wire/map.js";
import type { Call, Command, Outcome, Parts } from "./command.js";
import { candidates, type KnownNames } from "./completioncandidates.js";
import { readConfig } from "./config.js";

/** `complete SHELL WORDS…`: one candidate a line, a tab before what it is. Nothing is asked over the network. */
export async function completeAction({ args, parts }: Call, commands: readonly Command[]): Promise<Outcome> {
  const found = candidates(commands, args.slice(1), await knownNames(parts));
  return { value: { candidates: found }, text: found.map(({ word, about }) => `${word}\t${about}`).join("\n") };
}

/** From the config, the journals of runs from here, and, where it may be read, the network map of this device. */
async function knownNames({ files, paths }: Parts): Promise<KnownNames> {
  // A file that cannot be read or is broken is told of by the command that needs it, and not in the middle of a line.
  const config = await readConfig(files, paths.config).catch(() => undefined);
  const hosts = Object.keys(config?.hosts ?? {});
  const journals = await files.list(join(paths.state, "journal")).catch(() => []);
  const map = networkMap.safeParse(tryJson((await files.readText(join(paths.var, "map.json")).catch(() => "")) ?? ""));
  const exitNodes = journals.flatMap((file) => {
    const host = hosts.find((one) => file.startsWith(`${one}-`));
    return host === undefined || !file.endsWith(".jsonl") ? [] : [file.slice(host.length + 1, -".jsonl".length)];
  });
  return {
    hosts,
    exitNodes: [...new Set(exitNodes)],
    peers: map.success ? map.data.peers.map(({ name }) => name) : [],
  };
}
