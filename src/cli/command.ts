import type { Clock } from "../sys/clock.js";
import type { Exec } from "../sys/exec.js";
import type { Files } from "../sys/files.js";
import type { Random } from "../sys/random.js";
import type { Paths } from "./paths.js";

/**
 * One command of the program. A command file exports light specifications; what is heavy is imported inside `run`,
 * so that `exitnode --help` reads none of it.
 */
export type Command = {
  /** Words and arguments as typed: "host add <name>", "trace [target]". */
  readonly usage: string;
  readonly summary: string;
  readonly options?: readonly Option[];
  /** Left out of `--help`: inner steps. */
  readonly hidden?: true;
  /** Everything after the first argument is passed on unread: `lab exec PLACE -- CMD`. */
  readonly passThrough?: true;
  run(call: Call): Promise<Outcome>;
};

export type Option = {
  /** As commander writes them: "--memory <MiB>", "--yes". Values arrive as text under the camel-cased name. */
  readonly flags: string;
  readonly description: string;
  /** The option may be given several times; its value is a list. */
  readonly repeatable?: true;
};

export type Call = {
  readonly args: readonly string[];
  readonly options: Readonly<Record<string, string | boolean | readonly string[] | undefined>>;
  readonly json: boolean;
  /** Aborted by the first Ctrl-C. */
  readonly signal: AbortSignal;
  readonly parts: Parts;
};

/** The world as commands see it. */
export type Parts = {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly paths: Paths;
  readonly exec: Exec;
  readonly files: Files;
  readonly clock: Clock;
  readonly random: Random;
  /** One line of progress, on stderr. */
  say(line: string): void;
  /** A terminal is there to ask questions and draw progress on. */
  readonly interactive: boolean;
};

/** What a command has to show: `--json` prints the value, a person reads the text; both on stdout. */
export type Outcome = {
  readonly value: unknown;
  readonly text: string;
  /** 0 unless `plan` found changes (4). */
  readonly exitCode?: number;
};
