import { NEAREST } from "../wire/agentsocket.js";
import type { Command } from "./command.js";

/** What may stand at a place of the command line, out of the table of commands. */
export type Candidate = { readonly word: string; readonly about: string };

/** Names that are known without asking a host or a coordinator. */
export type KnownNames = {
  readonly hosts: readonly string[];
  readonly exitNodes: readonly string[];
  readonly peers: readonly string[];
};

/** `words` is what was typed after "exitnode"; the last one, perhaps empty, is the one to complete. */
export function candidates(commands: readonly Command[], words: readonly string[], known: KnownNames): Candidate[] {
  // bash hands "--host=pve1" over as three words.
  const typed = words.filter((word, at) => word !== "=" || at === words.length - 1);
  const last = typed.at(-1) ?? "";
  const before = typed.slice(0, -1);
  const partial = last === "=" ? "" : last;
  return offered(commands, before, partial, known).filter(({ word }) => word.startsWith(partial));
}

function offered(commands: readonly Command[], before: readonly string[], partial: string, known: KnownNames) {
  const visible = commands.filter(({ hidden }) => hidden !== true);
  const { path, command, options, args } = readSoFar(visible, before);
  const previous = before.at(-1) ?? "";
  const awaited = valueName(options, previous);
  if (awaited !== undefined) return valuesOf(previous, known);
  // `lab exec PLACE -- …`: a command of somewhere else.
  if (command?.passThrough === true && args.length > 0) return [];
  if (partial.startsWith("-")) return optionsOf(options, before);
  const words = args.length === 0 ? subcommands(visible, path) : [];
  if (command === undefined || words.length > 0) return words;
  return argumentsOf(command, args.length, known);
}

type Read = {
  readonly path: readonly string[];
  readonly command: Command | undefined;
  readonly options: Command["options"];
  readonly args: readonly string[];
};

/** Which command the words name so far, and what else was given. */
function readSoFar(commands: readonly Command[], words: readonly string[]): Read {
  const path: string[] = [];
  const args: string[] = [];
  let command: Command | undefined;
  for (let at = 0; at < words.length; at++) {
    const word = words[at] ?? "";
    if (word.startsWith("-")) {
      if (valueName(command?.options, word) !== undefined) at++;
      continue;
    }
    const longer = [...path, word];
    if (args.length === 0 && commands.some(({ usage }) => startsWith(wordsOf(usage), longer))) {
      path.push(word);
      command = commands.find(({ usage }) => wordsOf(usage).join(" ") === path.join(" "));
    } else args.push(word);
  }
  return { path, command, options: command?.options, args };
}

function subcommands(commands: readonly Command[], path: readonly string[]): Candidate[] {
  const found = new Map<string, string>();
  for (const { usage, summary } of commands) {
    const words = wordsOf(usage);
    const word = words[path.length];
    if (word === undefined || !startsWith(words, path)) continue;
    if (words.length === path.length + 1) found.set(word, summary);
    else if (!found.has(word)) found.set(word, `${[...path, word].join(" ")} …`);
  }
  return [...found].map(([word, about]) => ({ word, about }));
}

/** An option that was given is offered again only when it may be repeated. */
function optionsOf(options: Command["options"], before: readonly string[]): Candidate[] {
  const own = (options ?? [])
    .map(({ flags, description, repeatable }) => ({ word: longFlag(flags), about: description, repeatable }))
    .filter(({ word, repeatable }) => repeatable === true || !before.includes(word));
  return [
    ...own.map(({ word, about }) => ({ word, about })),
    { word: "--json", about: "print the result as JSON" },
    { word: "--help", about: "show the help" },
  ];
}

/** The name of the value that an option takes: "--host <HOST>" → HOST. */
function valueName(options: Command["options"], word: string): string | undefined {
  const option = options?.find(({ flags }) => flags.split(/[ ,]+/).includes(word));
  return option === undefined ? undefined : /<(.+)>/.exec(option.flags)?.[1];
}

const VALUES: Readonly<Record<string, readonly string[]>> = {
  "--format": ["terraform", "ansible", "pct"],
  "--data-plane": ["auto", "kernel", "userspace"],
  "--unit": ["agent", "coordinator", "ssh", "all"],
  "--ip": ["dhcp"],
  "--ip6": ["auto", "dhcp", "none"],
};

function valuesOf(option: string, known: KnownNames): Candidate[] {
  if (option === "--host" || option === "--on") return named(known.hosts, "Proxmox host");
  if (option === "--exit") return named(known.exitNodes, "exit node");
  return named(VALUES[option] ?? [], "");
}

function argumentsOf({ usage }: Command, at: number, known: KnownNames): Candidate[] {
  const parameters = usage.split(" ").filter((word) => /^[<[]/.test(word));
  const parameter = parameters[at]?.replace(/[^a-z]/g, "");
  if (parameter === "shell") return named(["bash", "zsh", "fish"], "");
  if (parameter === "exit") return named([...new Set([...known.peers, ...known.exitNodes, NEAREST, "none"])], "");
  if (parameter === "peer") return named(known.peers, "peer");
  if (parameter !== "name" || usage.startsWith("host add")) return [];
  return usage.startsWith("host ") ? named(known.hosts, "Proxmox host") : named(known.exitNodes, "exit node");
}

const named = (words: readonly string[], about: string): Candidate[] => words.map((word) => ({ word, about }));
const wordsOf = (usage: string): string[] => usage.split(" ").filter((word) => !/^[<[]/.test(word));
const longFlag = (flags: string): string => flags.split(/[ ,]+/).find((word) => word.startsWith("--")) ?? flags;
const startsWith = (words: readonly string[], path: readonly string[]): boolean =>
  path.every((word, at) => words[at] === word);
