import { asFailure, Failure } from "../kit/failure.js";
import { findContainer } from "../provision/observe.js";
import type { Progress } from "../provision/parts.js";
import type { Done } from "../provision/run.js";
import { DEFAULTS } from "../provision/spec.js";
import { ensureSshKey } from "../sys/sshkey.js";
import type { Call } from "./command.js";
import { readConfig } from "./config.js";
import { hostProgress } from "./createprogress.js";
import { type Candidate, spread } from "./createspread.js";
import { type Answer, askHosts, atMost, attempt, failuresOf, forHost, valuesOf } from "./everyhost.js";
import { openHost } from "./hosts.js";

/** One exit node on each of several hosts, on machines of their own. */
export type Made = { readonly name: string; readonly done: Done; readonly seconds: number };
/** Where one of them goes, and how its steps are shown. */
export type Choice = { readonly pveNode: string | undefined; readonly progress: Progress };
export type Make = (call: Call, choice: Choice) => Promise<Done>;

/** Each holds a template's upload and an SSH connection. */
const CREATES_AT_ONCE = 4;

/** Options that name one thing, of which there cannot be two. */
const ONLY_ONCE = ["vmid", "pveNode", "ip", "ip6", "gateway", "gateway6"] as const;

/** "home" on host pve1 is "home-pve1", when it is made on others, too. */
export const nameOn = (call: Call, host: string): string =>
  `${typeof call.options.name === "string" ? call.options.name : DEFAULTS.name}-${host}`;

/** The same command for one of several hosts, with the exit node's name there. */
export const forOneOf = (call: Call, host: string): Call => {
  const one = forHost(call, host);
  return { ...one, options: { ...one.options, name: nameOn(call, host) } };
};

export function refuseOnlyOnce({ options }: Call, hosts: readonly string[]): void {
  const found = ONLY_ONCE.find(
    (name) => typeof options[name] === "string" && !/^(dhcp|auto|none)$/.test(String(options[name])),
  );
  if (found === undefined) return;
  const flag = `--${found.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
  throw new Failure("usage", `${flag} can be one exit node's alone, and ${hosts.length} hosts are given`, {
    advice: "make them one by one, each with its --name",
  });
}

/** Makes all of them. One that fails stops no other. */
export async function makeOnHosts(call: Call, hosts: readonly string[], make: Make): Promise<Answer<Made>[]> {
  const { clock, files, paths } = call.parts;
  await ensureSshKey(files, paths.config);
  const nodes = await placements(call, hosts);
  const makeOne = (host: string): Promise<Answer<Made>> =>
    attempt(host, async () => {
      const pveNode = nodes.get(host);
      if (pveNode instanceof Failure) throw pveNode;
      const startedAt = clock.now();
      const done = await make(forOneOf(call, host), { pveNode, progress: hostProgress(call.parts, host) });
      return { name: nameOn(call, host), done, seconds: Math.round(clock.now() - startedAt) / 1_000 };
    });
  const answers: Answer<Made>[] = [];
  const left = [...hosts];
  // Until there is a coordinator, the next one brings it; then the others join it, all at once.
  while (left.length > 0 && (await readConfig(files, paths.config)).coordinator === undefined)
    answers.push(await makeOne(left.shift() ?? ""));
  return [...answers, ...(await atMost(CREATES_AT_ONCE, left, makeOne))];
}

async function placements(call: Call, hosts: readonly string[]): Promise<Map<string, string | Failure>> {
  const answers = await askHosts(call, hosts, candidateOf);
  const chosen = spread(valuesOf(answers).map(({ value }) => value));
  for (const { host, error } of failuresOf(answers)) chosen.set(host, asFailure(error));
  return chosen;
}

async function candidateOf(call: Call, host: string): Promise<Candidate> {
  const { entry, pve } = await openHost(call.parts, host, { signal: call.signal });
  try {
    const [nodes, guests] = await Promise.all([pve.nodes(), pve.guests()]);
    const there = (await findContainer(pve, guests, nameOn(call, host)))?.node;
    return { host, wanted: entry.pveNode, fingerprint: entry.fingerprint, nodes, there };
  } finally {
    pve.close();
  }
}
