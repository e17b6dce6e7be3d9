import { type Argument, Command as Commander, type CommanderError, Option } from "commander";
import { Failure } from "../kit/failure.js";
import type { Call, Command, Outcome } from "./command.js";

export type Typed = { readonly command: Command; readonly call: Omit<Call, "parts" | "signal"> };

/** Thrown after help or the version was printed, as it was asked for: there is nothing left to do. */
export class Shown extends Error {}

/** Turns argv into the command that was meant; wrong usage is a Failure that points to the help of what was typed. */
export function parseArgv(commands: readonly Command[], argv: readonly string[], version: string): Typed {
  let typed: Typed | undefined;
  const program = new Commander("exitnode")
    .description("Your own exit node on Proxmox, and the self-hosted mesh around it")
    .version(version, "-V, --version", "show the version")
    .helpOption("-h, --help", "show this help")
    .commandsGroup("And:")
    .helpCommand("help [command]", "Show the help of a command")
    .configureHelp({
      subcommandTerm: (command) => [command.name(), ...command.registeredArguments.map(asTyped)].join(" "),
    })
    .configureOutput({ outputError: () => {} })
    .addOption(hiddenJson())
    .enablePositionalOptions()
    .exitOverride(ended("exitnode"));
  const groups = new Map<string, Commander>([["", program]]);
  for (const command of commands) {
    const words = command.usage.split(" ").filter((word) => !/^[<[]/.test(word));
    const parameters = command.usage.split(" ").filter((word) => /^[<[]/.test(word));
    const leaf = groupFor(groups, words.slice(0, -1)).command(words.at(-1) ?? "", { hidden: command.hidden === true });
    // `relay` runs one, and `relay up` is something else.
    if (!groups.has(words.join(" "))) groups.set(words.join(" "), leaf);
    leaf.description(command.summary).option("--json", "print the result as JSON, and nothing else, on stdout");
    for (const parameter of parameters) leaf.argument(parameter);
    for (const option of command.options ?? []) {
      if (option.repeatable)
        leaf.option(option.flags, option.description, (value, all: string[] = []) => [...all, value]);
      else leaf.option(option.flags, option.description);
    }
    if (command.passThrough) leaf.passThroughOptions().allowUnknownOption();
    leaf.exitOverride(ended(`exitnode ${words.join(" ")}`, leaf)).action(() => {
      const { json = false, ...options } = leaf.optsWithGlobals<Record<string, string | boolean>>();
      typed = { command, call: { args: leaf.args, options, json: json === true } };
    });
  }
  for (const [path, group] of groups) {
    const what = GROUPS[path];
    const words = program
      .createHelp()
      .visibleCommands(group)
      .map((one) => one.name());
    if (what !== undefined) group.summary(`${what}: ${words.filter((word) => word !== "help").join(", ")}`);
  }
  for (const [title, words] of Object.entries(SECTIONS))
    for (const word of words.split(" ")) groups.get(word)?.helpGroup(title);
  program.parse([...argv], { from: "user" });
  if (typed === undefined) throw new Failure("usage", "a command is missing", { advice: "exitnode --help" });
  return typed;
}

/** Wrong usage found by a command itself points to that command's help, unless it knows better. */
export function withHelp(failure: Failure, { usage }: Command): Failure {
  if (failure.code !== "usage" || failure.advice !== undefined) return failure;
  const words = usage.split(" ").filter((word) => !/^[<[]/.test(word));
  return new Failure("usage", failure.message, { advice: `exitnode ${words.join(" ")} --help`, cause: failure });
}

/** What commander ends the command `typed` with, in our terms. */
function ended(typed: string, leaf?: Commander): (error: CommanderError) => never {
  return ({ code, exitCode, message }) => {
    if (exitCode === 0) throw new Shown();
    const advice = `${typed} --help`;
    // Without a command, commander has printed the help.
    if (code === "commander.help") throw new Failure("usage", `a command is missing after "${typed}"`, { advice });
    // `create home` is a near thing: other commands take the name so.
    const name = code === "commander.excessArguments" && leaf?.args.length === 1 ? leaf.args[0] : undefined;
    if (name !== undefined && leaf?.options.some(({ long }) => long === "--name"))
      throw new Failure("usage", `"${name}" needs --name before it`, { advice: `${typed} --name ${name}` });
    const said = message
      .replace(/^error: /, "")
      .replaceAll("\n", " ")
      .replace(/\.$/, "");
    throw new Failure("usage", said, { advice });
  };
}

const asTyped = (argument: Argument): string => {
  const name = `${argument.name()}${argument.variadic ? "..." : ""}`;
  return argument.required ? `<${name}>` : `[${name}]`;
};

/** `--json` counts wherever it stands; it is told of in the help of each command. */
const hiddenJson = (): Option => new Option("--json").hideHelp();

function groupFor(groups: Map<string, Commander>, words: readonly string[]): Commander {
  const path = words.join(" ");
  const known = groups.get(path);
  if (known !== undefined) return known;
  const group = groupFor(groups, words.slice(0, -1)).command(words.at(-1) ?? "");
  group
    .description(GROUPS[path] ?? "")
    .addOption(hiddenJson())
    .exitOverride(ended(`exitnode ${path}`));
  groups.set(path, group);
  return group;
}

/** What a group is about; `--help` adds what there is in it. */
const GROUPS: Record<string, string> = {
  host: "Proxmox hosts",
  key: "Join keys",
  device: "Devices of the network",
  lock: "Device lock",
  user: "People of the network",
  token: "Tokens for programs that use the API",
  policy: "Who may reach what",
  route: "Routes through devices",
  coordinator: "The control plane",
  webhook: "Who is told of changes",
  names: "Names in the network",
  appliance: "The container template",
  config: "The configuration",
  lab: "The embedded Proxmox and Internet",
};

/** How `--help` orders what there is; the rest comes last. */
const SECTIONS: Record<string, string> = {
  "Exit nodes:": "setup create plan destroy list logs upgrade repair adopt export host doctor appliance",
  "This device:": "up down use status ping netcheck trace rotate agent",
  "The network:": "key device user policy route names lock token audit webhook",
  "Its servers:": "coordinator serve relay",
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
