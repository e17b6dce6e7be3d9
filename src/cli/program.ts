import { Command as Commander, CommanderError } from "commander";
import type { Failure } from "../kit/failure.js";
import type { Call, Command, Outcome } from "./command.js";

export type Typed = { readonly command: Command; readonly call: Omit<Call, "parts" | "signal"> };

/** Turns argv into the command that was meant; help and usage errors are printed by commander and thrown as Usage. */
export class Usage extends Error {
  readonly exitCode: number;
  constructor(exitCode: number) {
    super("usage");
    this.exitCode = exitCode;
  }
}

export function parseArgv(commands: readonly Command[], argv: readonly string[], version: string): Typed {
  let typed: Typed | undefined;
  const program = new Commander("exitnode")
    .description("Your own exit node on Proxmox, and the self-hosted mesh around it")
    .version(version)
    .enablePositionalOptions()
    .showSuggestionAfterError()
    .exitOverride();
  const groups = new Map<string, Commander>([["", program]]);
  for (const command of commands) {
    const words = command.usage.split(" ").filter((word) => !/^[<[]/.test(word));
    const parameters = command.usage.split(" ").filter((word) => /^[<[]/.test(word));
    const leaf = groupFor(groups, words.slice(0, -1)).command(words.at(-1) ?? "", { hidden: command.hidden === true });
    leaf.description(command.summary).option("--json", "print the result as JSON, and nothing else, on stdout");
    for (const parameter of parameters) leaf.argument(parameter);
    for (const option of command.options ?? []) {
      if (option.repeatable)
        leaf.option(option.flags, option.description, (value, all: string[]) => [...all, value], []);
      else leaf.option(option.flags, option.description);
    }
    if (command.passThrough) leaf.passThroughOptions().allowUnknownOption();
    leaf.exitOverride().action((...all: unknown[]) => {
      const { json = false, ...options } = leaf.opts<Record<string, string | boolean>>();
      typed = { command, call: { args: leaf.args, options, json: json === true } };
      void all;
    });
  }
  try {
    program.parse([...argv], { from: "user" });
  } catch (error) {
    if (error instanceof CommanderError) throw new Usage(error.exitCode === 0 ? 0 : 2);
    throw error;
  }
  if (typed === undefined) throw new Usage(2);
  return typed;
}

function groupFor(groups: Map<string, Commander>, words: readonly string[]): Commander {
  const path = words.join(" ");
  const known = groups.get(path);
  if (known !== undefined) return known;
  const group = groupFor(groups, words.slice(0, -1)).command(words.at(-1) ?? "");
  group.description(GROUPS[path] ?? "").exitOverride();
  groups.set(path, group);
  return group;
}

const GROUPS: Record<string, string> = {
  host: "Proxmox hosts: add, check, list, remove",
  key: "join keys",
  device: "the devices of the network",
  coordinator: "the control plane",
  appliance: "the container template",
  lab: "the embedded Proxmox and Internet",
};

/** The lines a result or a failure becomes: exactly one JSON value under --json. */
export function renderOutcome(outcome: Outcome, json: boolean): string {
  if (json) return `${JSON.stringify(outcome.value)}\n`;
  return outcome.text === "" || outcome.text.endsWith("\n") ? outcome.text : `${outcome.text}\n`;
}

export function renderFailure(failure: Failure, json: boolean): { stdout: string; stderr: string } {
  if (json) return { stdout: `${JSON.stringify({ error: failure })}\n`, stderr: "" };
  const advice = failure.advice === undefined ? "" : `  → ${failure.advice.replaceAll("\n", "\n    ")}\n`;
  return { stdout: "", stderr: `exitnode: ${failure.message} [${failure.code}]\n${advice}` };
}
