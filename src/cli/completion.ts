import type { Command } from "./command.js";

/** What is made out of the table of commands: what the shell offers at a TAB, and the manual page. */
export const tableCommands = (commands: () => readonly Command[]): readonly Command[] => [
  {
    usage: "completion <shell>",
    summary: "Print the completion script for bash, zsh or fish",
    run: async (call) => (await import("./completionscripts.js")).completionAction(call),
  },
  {
    usage: "complete <shell> [words...]",
    summary: "What may stand where the last word is: asked by the completion scripts",
    hidden: true,
    passThrough: true,
    run: async (call) => (await import("./completionaction.js")).completeAction(call, commands()),
  },
  {
    usage: "man",
    summary: "Print the manual page: exitnode man | man -l -",
    run: async () => (await import("./manpage.js")).manAction(commands()),
  },
];
