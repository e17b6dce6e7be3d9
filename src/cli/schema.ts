import type { Command } from "./command.js";

/** `config schema`: what config.yaml may hold, for editors and checkers. */
export const schemaCommands: readonly Command[] = [
  {
    usage: "config schema",
    summary: "Print the JSON Schema of config.yaml, by which an editor completes and checks it",
    run: async () => (await import("./schemaaction.js")).schemaAction(),
  },
];
