import { setMaxListeners } from "node:events";
import { asFailure, Failure } from "../kit/failure.js";
import { formatDuration, type Millis, SECOND } from "../kit/time.js";
import type { Call } from "./command.js";
import { readConfig } from "./config.js";

/** Several hosts are asked at once; one that fails or is silent is an answer of its own and hides no other. */
export type Answer<T> = { readonly host: string } & ({ readonly value: T } | { readonly error: Failure });

/** How long a host may take to answer for what is on it; a healthy one takes a tenth of a second per exit node. */
const HOST_WITHIN_MS: Millis = 15 * SECOND;
/** More than this are asked one after the other. */
const HOSTS_AT_ONCE = 16;

/** Asks with a signal that ends when the host's time is over. */
export function askHosts<T>(
  call: Call,
  hosts: readonly string[],
  ask: (call: Call, host: string) => Promise<T>,
  withinMs: Millis = HOST_WITHIN_MS,
): Promise<Answer<T>[]> {
  return atMost(HOSTS_AT_ONCE, hosts, (host) => attempt(host, () => within(withinMs, call, host, ask)));
}

/** The work's value, or why it failed. */
export async function attempt<T>(host: string, work: () => Promise<T>): Promise<Answer<T>> {
  try {
    return { host, value: await work() };
  } catch (error) {
    return { host, error: asFailure(error) };
  }
}

async function within<T>(
  withinMs: Millis,
  call: Call,
  host: string,
  ask: (call: Call, host: string) => Promise<T>,
): Promise<T> {
  const deadline = new AbortController();
  const timer = setTimeout(() => deadline.abort(), withinMs);
  const late = new Promise<never>((_, reject) =>
    deadline.signal.addEventListener("abort", () =>
      reject(
        new Failure("host-deadline", `"${host}" did not answer within ${formatDuration(withinMs)}`, {
          advice: `exitnode host check ${host}`,
        }),
      ),
    ),
  );
  try {
    const signal = AbortSignal.any([call.signal, deadline.signal]);
    // Every request under way listens to it: Node would warn of a leak.
    setMaxListeners(0, signal);
    return await Promise.race([ask({ ...call, signal }, host), late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Runs the work for every item, so many at once, and answers in the items' order. */
export async function atMost<T, U>(count: number, items: readonly T[], work: (item: T) => Promise<U>): Promise<U[]> {
  const results = new Map<number, U>();
  const queue = items.entries();
  const runner = async (): Promise<void> => {
    for (const [i, item] of queue) results.set(i, await work(item));
  };
  await Promise.all(Array.from({ length: Math.min(count, items.length) }, runner));
  return [...results].sort(([left], [right]) => left - right).map(([, result]) => result);
}

/** The hosts that `--host` names, each once; none when it is not given. */
export function givenHosts({ options: { host } }: Call): string[] {
  const named = Array.isArray(host) ? host.map(String) : typeof host === "string" ? [host] : [];
  const twice = named.find((name, i) => named.indexOf(name) !== i);
  if (twice !== undefined) throw new Failure("usage", `--host ${twice} is given twice`);
  return named;
}

/** Those hosts, or every host of the config. */
export async function givenOrAllHosts(call: Call): Promise<string[]> {
  const given = givenHosts(call);
  if (given.length > 0) return given;
  return Object.keys((await readConfig(call.parts.files, call.parts.paths.config)).hosts);
}

/** In words, with the next command. */
export async function noExitNodes({ parts }: Call): Promise<string> {
  const { hosts } = await readConfig(parts.files, parts.paths.config);
  return Object.keys(hosts).length === 0
    ? "no exit nodes, and no Proxmox host to make one on: exitnode setup"
    : "no exit nodes: exitnode create";
}

/** The same command for one of its hosts. */
export const forHost = (call: Call, host: string): Call => ({ ...call, options: { ...call.options, host } });

export const failuresOf = <T>(answers: readonly Answer<T>[]): { host: string; error: Failure }[] =>
  answers.flatMap((answer) => ("error" in answer ? [{ host: answer.host, error: answer.error }] : []));

export const valuesOf = <T>(answers: readonly Answer<T>[]): { host: string; value: T }[] =>
  answers.flatMap((answer) => ("value" in answer ? [{ host: answer.host, value: answer.value }] : []));
